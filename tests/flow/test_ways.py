"""Several ways of teaching one student, compared on the same test items."""

import json
import random

import pytest

from flow.planted import FIRST, Finder, Found, label_rows
from underdog.evaluation.statistics import holm

BIG = "Big"


@pytest.fixture(scope="module")
def ways(find: Finder) -> Found:
    """The first word decides; a teacher answers a third of the items wrongly, and some of its texts run on."""
    rows, draw = label_rows(240), random.Random(1)
    told = []
    for number, row in enumerate(rows):
        answer = row["label"] if number % 3 else draw.choice([label for label in FIRST.values() if label != row["label"]])
        text = f"The first word of it is {row['text'].split()[0]}, and that is why it is {answer}."
        told.append({"id": row["id"], "why": text + (" Question: what is" if number % 4 == 0 else ""), "said": answer})
    return find(
        rows,
        files={"big.jsonl": told},
        teachers=[
            {"name": "untrained", "model": "MODEL"},
            {"name": BIG, "rationales": "big.jsonl", "field": "why", "answers": "said", "saw_answer": False},
        ],
        recipes=[
            {"kind": "labels", "name": "plain"},
            {"kind": "labels", "name": "its answers", "answers_from": BIG},
            {"kind": "rationales", "name": "raw", "weight": 0.1},
            {"kind": "rationales", "name": "cleaned", "select": ["run_on", "teacher_wrong"], "weight": 0.1},
            {"kind": "rationales", "name": "shuffled", "select": ["run_on", "teacher_wrong"], "shuffled": True, "weight": 0.1},
            {"kind": "rationales", "name": "likeliest", "one_per_question": "likelihood", "weight": 0.1},
        ],
        contrasts=[["cleaned", "shuffled"], ["raw", "plain"], ["cleaned", "shuffled"]],
        goal={"seeds": 1, "every_recipe": True},
    )


def test_every_way_is_measured_and_compared_with_the_answers_alone(ways: Found) -> None:
    pairs = {(one.way, one.against): one.comparison for one in ways.verdict.contrasts}
    assert len(pairs) == len(ways.verdict.contrasts), "each once, also where the task file names one that is made anyway"
    plain = "plain · full"
    taught = ["its answers · full", "raw · full", "cleaned · full", "shuffled · full", "likeliest · full"]
    assert list(pairs) == [
        ("majority answer", plain),
        ("untrained", plain),
        *((way, plain) for way in taught),
        ("cleaned · full", "shuffled · full"),
    ]
    assert all(one.paired for one in pairs.values())
    assert [one.p_holm for one in pairs.values()] == pytest.approx(holm([one.p_value for one in pairs.values()]))
    qualities = {one.name.split(" · ")[-2]: one.quality.mean for one in ways.verdict.contenders if one.role == "finalist"}
    for (way, against), compared in list(pairs.items())[2:]:
        first, second = way.split(" · ")[0], against.split(" · ")[0]
        assert compared.difference.mean == pytest.approx(qualities[first] - qualities[second])


def test_who_learns_a_teachers_answers_learns_its_errors(ways: Found) -> None:
    qualities = {one.name.split(" · ")[-2]: one.quality.mean for one in ways.verdict.contenders if one.role == "finalist"}
    assert qualities["plain"] >= 0.98
    assert qualities["its answers"] < qualities["plain"]


def test_what_the_filters_did_is_in_the_verdict_once_for_all_who_share_it(ways: Found) -> None:
    (selection,) = ways.verdict.selections
    assert selection.recipes == ("cleaned", "shuffled")
    run_on, wrong = selection.results
    train = ways.verdict.split_sizes["train"]
    assert (run_on.filter, run_on.seen, run_on.dropped) == ("run_on", train, 0)
    assert 0.15 * train < run_on.changed < 0.35 * train
    assert (wrong.filter, wrong.seen) == ("teacher_wrong", train)
    assert 0.25 * train < wrong.dropped < 0.42 * train
    assert all("Question" not in (change.after or "") for change in run_on.examples)


def test_the_report_draws_them(ways: Found) -> None:
    page = (ways.folder / "report.html").read_text(encoding="utf-8")
    assert "Ways compared" in page
    assert json.dumps("its answers · full − plain · full") in page
    assert "For cleaned and shuffled" in page
