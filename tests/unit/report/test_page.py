"""The page: one file that needs nothing else, says what the verdict says, and lets no text of the data become code."""

import json
import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

import pytest

from underdog.report import write_report
from underdog.report.write import cell, page
from underdog.search.verdict import Verdict
from unit.report.samples import SMALLER, WINNER, clear, none_found, ways

VOID = {"meta", "link", "br", "img", "input", "hr"}


@dataclass
class Page(HTMLParser):
    """Elements, text outside scripts, and the scripts themselves."""

    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    open: list[str] = field(default_factory=list)
    text: str = ""
    scripts: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif not self.open or self.open[-1] != "style":
            self.text += data

    @property
    def words(self) -> str:
        return " ".join(self.text.split())


def read(verdict: Verdict) -> Page:
    parsed = Page()
    parsed.feed(page(verdict))
    assert parsed.open == [], f"left open: {parsed.open}"
    return parsed


@pytest.fixture(scope="module")
def shown() -> Page:
    return read(clear())


def test_three_whole_files_and_nothing_else_are_written(tmp_path: Path) -> None:
    first, paths = write_report(none_found(), tmp_path / "run"), write_report(clear(), tmp_path / "run")
    assert first == paths
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["report.html", "report.md", "verdict.json"]
    assert Verdict.model_validate_json(paths.json.read_text(encoding="utf-8")) == clear()
    assert paths.html.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert clear().task in paths.markdown.read_text(encoding="utf-8")


def test_the_page_needs_nothing_from_elsewhere(shown: Page) -> None:
    for tag, attributes in shown.elements:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:")), f"<{tag} {name}={target}>"
    styles = re.findall(r"<style>(.*?)</style>", page(clear()), re.DOTALL)
    assert styles and not re.search(r"@import|url\(|@font-face", " ".join(styles))
    assert any("Plotly.react(" in script for script in shown.scripts)
    assert any(len(script) > 1_000_000 and "plotly.js v" in script[:1000] for script in shown.scripts)


def test_the_chart_offers_no_button_that_sends_figures_away(shown: Page) -> None:
    assert 'plotlyServerURL: ""' in shown.scripts[-1]
    buttons = re.search(r"modeBarButtons = (\[.*\]);", shown.scripts[-1])
    assert buttons and json.loads(buttons[1]) == [["toImage"], ["zoom2d", "pan2d", "resetScale2d"]]


@pytest.mark.parametrize("verdict", [clear(), none_found()])
def test_the_verdicts_sentence_stands_at_the_top(verdict: Verdict) -> None:
    parsed = read(verdict)
    assert verdict.sentence in parsed.words
    assert parsed.words.index(verdict.sentence) < parsed.words.index("Quality against size")
    assert [tag for tag, _ in parsed.elements].count("h1") == 1


def test_everything_that_was_measured_is_shown(shown: Page) -> None:
    verdict = clear()
    for one in verdict.contenders:
        assert one.name in shown.text and one.detail in shown.text
    for one in verdict.trials:
        assert one.label in shown.text and f"{one.parameters:,}" in shown.text
    facts = [
        *verdict.machine.values(), *verdict.versions.values(), *verdict.notes, verdict.command, verdict.goal,
        "confirm finalists, references and controls", "2025-03-04T10:11:12+00:00", "0123456789ab", "31 min 24 s",
        "8,994 items", "6 items, left out of training", "85.1 · 85.6 · 85.2",
        "batch halved after running out of memory at step 12",
        "1 item could not be scored", "2,176", "84.0–86.5", "67.8–71.2", "trials/000000000080619f/model",
    ]  # fmt: skip
    assert [fact for fact in facts if fact not in shown.words] == []


def test_only_what_applies_is_explained() -> None:
    paired, unpaired = read(clear()).words, read(none_found()).words
    assert "Unpaired" not in paired and "corrected for their number (Holm)" in paired
    assert "Unpaired" in unpaired and "Holm" not in unpaired
    assert "What an answer costs" in paired and "What an answer costs" not in unpaired
    assert "source: arXiv 2402.04616, table 2" in unpaired
    assert "reached: nothing new was tried after that" in unpaired


def test_a_table_can_be_read_aloud(shown: Page) -> None:
    headings = [attributes for tag, attributes in shown.elements if tag == "th"]
    assert headings and all(attributes.get("scope") in ("col", "row", "rowgroup") for attributes in headings)
    labels = {attributes.get("id") for _, attributes in shown.elements}
    pointed_at = [attributes["aria-labelledby"] for _, attributes in shown.elements if "aria-labelledby" in attributes]
    assert pointed_at and set(pointed_at) <= labels
    assert ("html", {"lang": "en"}) in shown.elements


def test_text_from_the_data_never_becomes_code() -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    verdict = clear()
    trials = (verdict.trials[0].model_copy(update={"label": evil}),)
    contenders = (*verdict.contenders, SMALLER.model_copy(update={"name": evil, "detail": evil}))
    asked = (verdict.disagreements[0].model_copy(update={"prompt": evil, "gold": evil, "winner": evil}),)
    changed = {
        "task": evil,
        "sentence": evil,
        "trials": trials,
        "contenders": contenders,
        "disagreements": asked,
        "command": evil,
    }
    parsed = read(verdict.model_copy(update=changed))
    assert len(parsed.scripts) == 3
    assert not [tag for tag, _ in parsed.elements if tag == "img"]
    assert evil in parsed.text
    assert "alert(1)" in parsed.scripts[0]  # only as the text of a label
    assert "<" not in parsed.scripts[0]


def figure_of(parsed: Page, name: str = "chart") -> dict:
    return json.loads(parsed.scripts[0])[name]


def test_the_chart_shows_every_contender_with_its_interval(shown: Page) -> None:
    traces = {trace["name"]: trace for trace in figure_of(shown)["data"]}
    assert set(traces) == {"Tried, on validation", "Winner", "Finalists", "References", "Controls"}
    winner = traces["Winner"]
    assert (winner["x"], winner["y"]) == ([WINNER.parameters], [85.31])
    assert winner["error_y"]["array"] == [pytest.approx(100 * (WINNER.quality.high - WINNER.quality.mean))]
    assert winner["error_y"]["arrayminus"] == [pytest.approx(100 * (WINNER.quality.mean - WINNER.quality.low))]
    assert traces["Tried, on validation"]["x"] == [trial.parameters for trial in clear().trials]
    assert "error_y" not in traces["Tried, on validation"]


def test_the_chart_has_the_reference_as_a_line_in_a_band(shown: Page) -> None:
    band, line, *levels = figure_of(shown)["layout"]["shapes"]
    assert (band["type"], band["y0"], band["y1"]) == ("rect", 14.56, 17.13)
    assert (line["type"], line["y0"], line["y1"]) == ("line", 15.8, 15.8)
    assert [level["label"]["text"] for level in levels if "label" in level] == ["chance 1.3 % · majority answer 1.3 %"] or len(
        levels
    ) == 2


def test_ways_of_teaching_are_drawn_with_their_intervals_in_the_order_of_the_table() -> None:
    parsed = read(ways())
    (marks,), layout = (figure_of(parsed, "forest")[part] for part in ("data", "layout"))
    first = ways().contrasts[0]
    assert layout["yaxis"]["ticktext"][-1] == "untrained − labels · full"
    assert marks["x"][0] == pytest.approx(0.23) and marks["error_x"]["array"][0] == pytest.approx(0.88)
    low, high = layout["xaxis"]["range"]
    assert -low == high > 4.41  # of labels · lora, the widest but for the untrained, which is an arrowhead at the edge
    assert high < 10 and low < marks["x"][-1] < 0.9 * low
    assert (marks["marker"]["symbol"][-1], marks["text"][-1]) == ("triangle-left", "−83.2 points")
    assert marks["error_x"]["arrayminus"][-1] == 0
    assert first.way == "untrained"
    assert "both teachers, cleaned · full" in parsed.words and "Ways compared" in parsed.words
    assert "forest" not in json.loads(read(clear()).scripts[0])


def test_what_filters_did_is_counted_with_examples() -> None:
    words = read(ways()).words
    assert "For both teachers, cleaned and shuffled <reasons>" in words
    assert "cut back to the last whole sentence" in words
    for count in ("1,113", "288", "640", "31"):
        assert count in words
    for told in ("Why Run on LLaMA, item 7 Left It is hot.", "The <answer> is not Cut off LLaMA, item 9 Left nothing"):
        assert told.replace(" ", "") in words.replace(" ", "")


def test_everything_lies_within_the_charts_axes() -> None:
    for verdict in (clear(), none_found()):
        layout = figure_of(read(verdict))["layout"]
        left, right = (10**power for power in layout["xaxis"]["range"])
        low, high = layout["yaxis"]["range"]
        for one in verdict.contenders:
            assert low <= 100 * one.quality.low and 100 * one.quality.high <= high
            assert one.parameters is None or left < one.parameters < right
        assert 2 <= len(layout["xaxis"]["tickvals"]) <= 12
        assert all(left <= tick <= right for tick in layout["xaxis"]["tickvals"])


def test_the_charts_colours_are_all_defined_by_the_page(shown: Page) -> None:
    style = re.search(r":root \{(.*?)\}", page(clear()), re.DOTALL)
    assert style
    defined = set(re.findall(r"(--[a-z-]+):", style[1]))
    assert set(re.findall(r'"(--[a-z-]+)"', shown.scripts[0])) <= defined


def test_a_verdict_without_finalists_still_makes_a_page() -> None:
    verdict = none_found()
    alone = verdict.model_copy(update={"contenders": verdict.contenders[:1], "trials": (), "openings": ()})
    words = read(alone).words
    assert "flan-t5-xl" in words and "What was tried" not in words
    assert "never no candidate was promising" in words


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("a | b", "a \\| b"),
        ("two\nlines", "two lines"),
        ("<img src=x>", "&lt;img src=x>"),
        ("p < 0.001 & so on", "p < 0.001 & so on"),
        ("&lt;b>", "&amp;lt;b>"),
        ("*bold* `code` [link](x)", "\\*bold\\* \\`code\\` \\[link\\](x)"),
        ("back\\slash", "back\\\\slash"),
    ],
)
def test_a_markdown_cell_holds_any_text(text: str, safe: str) -> None:
    assert cell(text) == safe
