"""What the report says of models that work together."""

from html import unescape

from underdog.evaluation import words
from underdog.evaluation.calibration import Calibration
from underdog.report.chart import figure
from underdog.report.systems import agreement_table, calibration_table, cascade_figure, systems_table
from underdog.report.tables import nearest, quality_table
from underdog.report.write import highlights, markdown, page
from underdog.search.verdict import Agreement, Contender, Curve, CurvePoint, MemberCalibration, SystemFacts, Verdict
from unit.report.samples import GOAL, REFERENCE, clear, compared, estimate

CASCADE = Contender(
    name="small <first>",
    role="system",
    detail="cascade: labels, and smollm2 where it is less sure than 0.620",
    parameters=142_927_353,
    parameters_per_answer=35_000_000,
    quality=estimate(0.9, 0.89, 0.91),
    versus_reference=compared(0.742, 0.72, 0.76, 1e-300, 1e-299),
    meets_goal=True,
)


def curve(part: str) -> Curve:
    points = [CurvePoint(threshold=t, calls=t, quality=estimate(0.8 + t / 10, 0.78 + t / 10, 0.82 + t / 10)) for t in (0.0, 0.5)]
    return Curve.model_validate({"part": part, "points": points})


FACTS = SystemFacts(
    name=CASCADE.name,
    kind="cascade",
    members=("labels", "smollm2"),
    calibrations=(
        MemberCalibration(
            member="labels",
            calibration=Calibration(
                temperature=1.8, fitted_on=1003, n=3080,
                ece_before=estimate(0.12, 0.1, 0.14), ece_after=estimate(0.02, 0.01, 0.03), ece_by_chance=0.018,
                equal_width_before=0.11,
                equal_width_after=0.021, nll_before=0.9, nll_after=0.6,
            ),
        ),
    ),
    agreements=(Agreement(first="labels", second="smollm2", share=estimate(0.81, 0.8, 0.82)),),
    threshold=0.62,
    target="within 1 point of smollm2",
    calls_on_validation=0.21,
    calls=estimate(0.198, 0.184, 0.212),
    marked=3,
    curves=(curve("validation"), curve("test")),
)  # fmt: skip


def together(winner: str | None = CASCADE.name) -> Verdict:
    sentence = words.sentence("beats", metric="accuracy", goal=GOAL, reference=REFERENCE, best=CASCADE, largest=1)
    verdict = clear()
    contenders = (*verdict.contenders[:3], CASCADE, *verdict.contenders[3:])
    return verdict.model_copy(
        update={
            "contenders": contenders,
            "systems": (FACTS,),
            "winner": winner,
            "sentence": sentence,
            "winner_folder": "systems/0",
        }
    )


def test_the_sentence_says_what_an_answer_takes_and_what_memory() -> None:
    assert together().sentence.startswith(
        "small <first> (35M parameters an answer, 143M in memory) beats smollm2 (135M): accuracy 90.0 % (89.0–91.0)"
    )
    assert "1/4 of the parameters an answer" in together().sentence


def test_a_system_stands_in_its_own_group_with_the_size_of_an_answer() -> None:
    table = quality_table(together())
    assert table.groups == ("References", "Finalists", "Working together", "Controls")
    (row,) = [row for row in table.rows if row.group == "Working together"]
    assert (row.cells[0], row.cells[1], row.mark) == (CASCADE.name, "35M", "winner")
    assert "those that an answer used, on average" in table.note
    assert "those that an answer used" not in quality_table(clear()).note


def test_its_own_table_tells_how_it_was_set() -> None:
    (row,) = systems_table(together()).rows
    assert row.cells == (CASCADE.name, "35M", "143M", "21 %", "19.8 % (18.4–21.2)", "0.620")
    assert row.detail == (
        "cascade of labels, smollm2; threshold chosen for within 1 point of smollm2; 3 test questions were left to the small "
        "model, because the big one gave no answer"
    )
    (member,) = calibration_table(together()).rows
    assert member.cells == ("labels", "1.80", "1,003", "12.0 % (10.0–14.0)", "2.0 % (1.0–3.0)", "1.8 %", "11.0 %", "2.1 %")
    (pair,) = agreement_table(together()).rows
    assert pair.cells == ("labels", "smollm2", "81.0 % (80.0–82.0)", "3,080")


def test_the_curve_has_both_parts_and_where_it_was_set() -> None:
    made = cascade_figure(together())
    assert made is not None
    valid, test, at = made["data"]
    assert valid["line"]["dash"] == "dot"
    assert test["line"]["dash"] == "solid"
    assert (test["x"], test["y"]) == ([0.0, 50.0], [80.0, 85.0])
    assert test["error_y"]["array"] == [2.0, 2.0]
    assert (at["x"], at["y"]) == ([19.8], [90.0])
    assert "small &lt;first&gt;" in at["customdata"][0]
    assert cascade_figure(clear()) is None


def test_the_page_and_the_text_hold_it_and_old_verdicts_have_none_of_it() -> None:
    shown, text = page(together()), markdown(together())
    assert 'id="cascade"' in shown
    assert "small <first>" not in shown
    for wanted in ("Working together", "How sure the members are", "How often members agree", "Parameters an answer"):
        assert wanted in unescape(shown)
        assert wanted in text
    assert "| 50 % | 0.500 | 85.0 % (83.0–87.0) |" in text
    assert "Working together" not in markdown(clear())
    assert 'id="cascade"' not in page(clear())


def test_chart_and_highlights_use_the_size_of_an_answer() -> None:
    winner = next(trace for trace in figure(together())["data"] if trace["name"] == "Winner")
    assert winner["x"] == [35_000_000]
    assert "35M parameters an answer, 143M in memory" in winner["customdata"][0]
    other = next(trace for trace in figure(together(None))["data"] if trace["name"] == "Working together")
    assert other["x"] == [35_000_000]
    label, value = next((one.label, one.value) for one in highlights(together()) if one.label.startswith("Parameters"))
    assert (label, value) == ("Parameters an answer", "35M")
    assert nearest(together(None)) == CASCADE  # nobody wins: the candidate that came nearest
