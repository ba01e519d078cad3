"""The page of a comparison of replaceable small models: one file that works offline, the same in Markdown, and JSON."""

import json
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

from underdog import runs
from underdog.evaluation import words
from underdog.replacing.chart import NAMES, chart, figure_cell
from underdog.replacing.compared import Compared, Entry
from underdog.replacing.verdict import BITS, change, share
from underdog.report.tables import NOTHING, Row, Table, capital
from underdog.report.write import Highlight, ReportPaths, cell, doubt


def write_comparison(found: Compared, folder: Path) -> ReportPaths:
    """Write `compare.html`, `compare.md` and `compare.json`, each whole or not at all. Raises DiskFull when there is no room."""
    paths = ReportPaths(folder / "compare.html", folder / "compare.md", folder / "compare.json")
    runs.write_text(paths.json, found.model_dump_json(indent=2) + "\n")
    runs.write_text(paths.markdown, markdown(found))
    runs.write_text(paths.html, page(found))
    return paths


def page(found: Compared) -> str:
    """Return the whole page, with the chart's library and everything else in it."""
    from plotly.offline import get_plotlyjs

    environment = _environment(autoescape=True)
    environment.filters["doubt"] = doubt
    environment.filters["unbroken"] = unbroken
    charts = json.dumps({"chart": chart(found)}).replace("<", "\\u003c")
    return environment.get_template("replacing.html.j2").render(**_facts(found), charts=charts, plotly=get_plotlyjs())


def unbroken(text: str) -> str:
    """No line ends between a number and its per cent sign, nor within `p < 0.001`."""
    return text.replace(" %", "\N{NO-BREAK SPACE}%").replace("p < ", "p\N{NO-BREAK SPACE}<\N{NO-BREAK SPACE}")


def markdown(found: Compared) -> str:
    """Return the comparison as Markdown."""
    environment = _environment(autoescape=False)
    environment.filters["cell"] = cell
    return environment.get_template("replacing.md.j2").render(**_facts(found)).rstrip() + "\n"


def _environment(*, autoescape: bool) -> Environment:
    loader = PackageLoader("underdog", "report/templates")
    return Environment(loader=loader, autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _facts(found: Compared) -> dict[str, object]:
    return {
        "found": found,
        "figures": highlights(found),
        "tables": [
            table for table in (quality_table(found), own_table(found), cost_table(found), made_table(found)) if table.rows
        ],
        "circumstances": circumstances(found),
        "guide": guide(found),
        "confidence": f"{100 * found.confidence:g} %",
    }


def quality_table(found: Compared) -> Table:
    """What every way reaches on test."""
    rows = tuple(
        Row(
            (
                one.name,
                words.size(one.parameters) if one.parameters else NOTHING,
                figure_cell(one.quality, found.unit),
                change(one.versus_llm, found.unit) if one.versus_llm else NOTHING,
                share(one.closed) if one.closed else NOTHING,
                change(one.versus_lora, found.unit) if one.versus_lora else NOTHING,
            ),
            detail=_detail(one),
            mark="winner" if one.name == found.best else "deciding" if one.role == "llm" else "",
            group=NAMES[one.role],
        )
        for one in sorted(found.entries, key=lambda one: list(NAMES).index(one.role))
    )
    columns = ("Way", "Learns", capital(found.unit), "Difference to the LLM", "Gap closed", "Difference to LoRA")
    what = "passages" if found.less_is_better else "items"
    less = "less is better" if found.less_is_better else "more is better"
    left = f" {found.left_out} {what} that some way could not answer are left out on all sides." if found.left_out else ""
    note = (
        f"{capital(found.unit)} on {found.test_passages:,} held-out {what}, with {100 * found.confidence:g} % intervals; {less}. "
        f"Differences are paired. The gap is that between the LLM alone and the fully fine-tuned one.{left}"
    )
    return Table("On test", columns, rows, note)


def own_table(found: Compared) -> Table:
    """What is lost on the LLM's own domain."""
    rows = tuple(
        Row(
            (
                one.name,
                figure_cell(one.own, BITS),
                change(one.own_change, BITS) if one.own_change else NOTHING,
                NOTHING if one.own_after_removal is None else _lost(one),
            )
        )
        for one in found.entries
        if one.own is not None
    )
    note = (
        f"Bits per character on held-out text of the LLM's own domain; less is better. A replaceable small model is taken off by "
        f"not using it: the LLM's weights had SHA-256 {found.weights_before[:16]}… before anything was trained and "
        f"{found.weights_after[:16]}… after, so that nothing is lost. "
        "LoRA can be taken off as well, as long as its adapters are kept apart; weights that were fine-tuned stay changed."
    )
    return Table("On the LLM's own domain", ("Way", "At work", "Difference to the LLM", "Lost for good"), rows, note)


def _lost(one: Entry) -> str:
    lost = one.own_after_removal or 0.0
    return "nothing" if lost == 0 else f"{lost:+.3f}".replace("-", "−")


def cost_table(found: Compared) -> Table:
    """Memory and time."""
    rows = []
    for one in found.entries:
        speeds = {} if one.writing is None else one.writing.by_batch
        shown = [words.spread(speeds[batch], words.PLAIN) if batch in speeds else NOTHING for batch in (1, 16)]
        peak = words.memory(one.training_cost.peak_bytes) if one.training_cost else NOTHING
        seconds = words.seconds(one.train["seconds"] / max(1, len(one.seeds))) if one.train else NOTHING
        rows.append(Row((one.name, words.size(one.in_memory), peak, seconds, *shown)))
    columns = ("Way", "Parameters in memory", "Training memory", "Training time", "Tokens/s, batch 1", "Tokens/s, batch 16")
    libraries = min((one.training_cost.libraries_bytes for one in found.entries if one.training_cost), default=0)
    aside = f", {words.memory(libraries)} of it the libraries" if libraries else ""
    note = (
        f"Training memory is the peak of a fresh process that trains for two steps{aside}. Tokens per second of writing: median "
        "and range of several rounds in which all ways take turns; the LLM fine-tuned, or with its adapters folded in, is of the "
        "LLM's own shape and as fast as it."
    )
    return Table("Cost", columns, tuple(rows), note)


def made_table(found: Compared) -> Table:
    """How every way was trained."""
    rows = []
    for one in (one for one in found.entries if one.train):
        tried = "; ".join(f"{rate:g}: {_reached(valid)}" for rate, valid in one.tried.items()) or NOTHING
        rows.append(
            Row(
                (
                    one.name,
                    f"{one.train['steps']:,}",
                    f"{one.learning_rate:g}",
                    tried,
                    ", ".join(map(str, one.seeds)),
                    f"{one.valid:.4f}",
                )
            )
        )
    columns = ("Way", "Steps", "Learning rate", "Rates tried: validation", "Seeds", "Validation")
    note = (
        "Learning rates and the way that the first sentence names were chosen on validation; the test part was opened after that."
    )
    return Table("Training", columns, tuple(rows), note)


def _reached(valid: float | None) -> str:
    return "diverged" if valid is None else f"{valid:.4f}"


def highlights(found: Compared) -> list[Highlight]:
    """The figures that the sentence rests on."""
    best, llm = found.entry(found.best), found.entry("llm")
    if best is None or llm is None:
        return []
    shown = [Highlight(capital(found.unit), figure_cell(best.quality, found.unit).partition(" (")[0],
                       f"the LLM alone {figure_cell(llm.quality, found.unit).partition(' (')[0]}")]  # fmt: skip
    if best.closed:
        text, _, bounds = share(best.closed).partition(" (")
        shown.append(Highlight("Gap closed", text, bounds.removesuffix(")")))
    shown.append(
        Highlight(
            "Parameters that learn", words.size(best.parameters), words.ratio(best.parameters, found.llm_parameters, "LLM's")
        )
    )
    shown.append(
        Highlight("The LLM", "unchanged" if found.llm_is_unchanged else "CHANGED", f"SHA-256 {found.weights_after[:12]}…")
    )
    return shown


def circumstances(found: Compared) -> list[tuple[str, str]]:
    """How it was made: enough to make it again."""
    openings = "; ".join(f"{one['when']}: {one['reason']}" for one in found.openings)
    return [
        ("LLM", f"{found.llm}, {found.llm_parameters:,} parameters, SHA-256 {found.weights_before}"),
        ("Learnt", found.on),
        ("Small models", f"{', '.join(found.small_models)} in {found.registry}" if found.small_models else NOTHING),
        ("Test part opened", openings),
        ("Time", f"{words.seconds(found.seconds)}, all sessions of the run together"),
        ("Command", found.command),
        ("Commit", found.commit or "not in a checkout"),
        ("Machine", ", ".join(f"{name} {value}" for name, value in found.machine.items())),
        ("Versions", ", ".join(f"{name} {value}" for name, value in found.versions.items())),
        *(("Note", note) for note in found.notes),
    ]


def guide(found: Compared) -> list[tuple[str, str]]:
    """Terms in plain words."""
    unit = (
        "How many bits it takes to write down held-out text with this model's predictions, per character of the text. A model "
        "that knows nothing needs about 8, one that were never surprised 0."
        if found.less_is_better
        else "Measured on held-out items by the task's metric."
    )
    return [
        (capital(found.unit), unit),
        (
            "follower",
            "The small model reads only what the LLM predicts at each place, drawn once; the LLM may be a remote server.",
        ),
        ("informed", "The small model reads the text and what the LLM predicts."),
        ("residual", "The small model adds a correction to the LLM's prediction; before training it changes nothing."),
        (
            "branch",
            "The small model is the LLM's last layers once more, trained. They run in place of the LLM's own, which stay.",
        ),
        ("alone", "The small model without the LLM."),
        ("lora, full", "A copy of the LLM is changed: with adapters of as many parameters as the small model, or all of it."),
        ("Gap closed", "0 % is the LLM alone, 100 % the fully fine-tuned one. Below 0 is worse than the LLM alone."),
        ("The range in brackets", f"Ranges made in this way hold the true value about {100 * found.confidence:g} times in 100."),
    ]


def _detail(one: Entry) -> str:
    said = [f"{name} {value}" for name, value in one.settings.items() if name in ("reads", "tables", "temperature", "layers")]
    return ", ".join([*said, *([f"rank {one.rank}"] if one.rank else [])])
