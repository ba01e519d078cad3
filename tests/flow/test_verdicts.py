"""The whole flow reaches the verdict that was planted."""

from html import unescape

import pytest

from flow import planted
from flow.planted import FIRST, Finder, Found, Row, choice_rows, copy_rows, label_rows, measured
from underdog import models
from underdog.answering import Question
from underdog.evaluation.statistics import holm
from underdog.inference.answerer import ModelAnswerer
from underdog.search.verdict import Verdict
from underdog.settings import Settings

UNTRAINED = "untrained"
PUBLISHED = {"quality": 0.5, "items": 200, "source": "Somebody et al., table 3", "parameters": 7_000_000_000}


@pytest.fixture(scope="module")
def labels(find: Finder) -> Found:
    """The first word decides among three labels; two sizes go on to the test set."""
    return find(label_rows(240), students={"from": "MODEL", "sizes": ["18K", "40K"]}, goal={"seeds": 2, "finalists": 2})


@pytest.fixture(scope="module")
def reasons(find: Finder) -> Found:
    """Choices of their own for each item, with two teachers' reasons, against a published figure."""
    rows = choice_rows(240)
    return find(
        rows,
        files={name: [{"id": row["id"], "rationale": f"{row['answer']} is {word}"} for row in rows] for name, word in TEACHERS},
        fields=None,
        choices="choices",
        teachers=[
            {"name": "Big", "rationales": "big.jsonl", "published": PUBLISHED},
            {"name": "Other", "rationales": "other.jsonl", "weight": 0.5},
        ],
        reference="Big",
        recipes=["rationales"],
    )


TEACHERS = (("big.jsonl", "good"), ("other.jsonl", "the shop"))


def test_a_planted_rule_is_learnt_and_beats_the_untrained_reference(labels: Found) -> None:
    verdict = labels.verdict
    assert verdict.outcome == "beats"
    winner = next(one for one in verdict.contenders if one.name == verdict.winner)
    assert winner.quality.mean >= 0.98
    assert set(winner.per_seed) == {0, 1}
    assert winner.versus_reference is not None
    assert winner.versus_reference.paired
    assert winner.versus_reference.difference.low > 0
    assert "beat untrained" in verdict.sentence
    assert "100.0 %" in verdict.sentence


def test_the_winner_is_the_smallest_finalist_and_an_ordinary_model_folder(labels: Found) -> None:
    finalists = [one for one in labels.verdict.contenders if one.role == "finalist"]
    assert len(finalists) == 2
    assert all(one.meets_goal for one in finalists)
    smallest = min(finalists, key=lambda one: one.parameters or 0)
    assert labels.verdict.winner == smallest.name
    assert labels.verdict.winner_folder is not None
    student = models.load(str(labels.folder / labels.verdict.winner_folder), Settings(cache=labels.folder, offline=True))
    assert student.parameter_count() == smallest.parameters
    asked = [Question("q", f"{word} was how a shop", "\nAnswer:", tuple(FIRST.values())) for word in FIRST]
    assert [answer.text for answer in ModelAnswerer(student, precision="float32").answer(asked)] == list(FIRST.values())


def test_two_finalists_have_holms_p_values_and_wider_intervals(labels: Found) -> None:
    compared = [one.versus_reference for one in labels.verdict.contenders if one.role == "finalist"]
    assert len(compared) == 2
    assert [one.p_holm for one in compared if one] == holm([one.p_value for one in compared if one])
    assert all(one.p_holm > one.p_value for one in compared if one and one.p_holm is not None)
    assert {one.difference.confidence for one in compared if one} == {0.975}


def test_the_controls_are_chance_majority_and_what_was_not_trained(labels: Found) -> None:
    chance, majority = labels.contender("control", "chance"), labels.contender("control", "majority")
    assert chance.quality.mean == pytest.approx(1 / 3)
    assert chance.quality.low == chance.quality.high
    assert majority.quality.mean < 0.5
    base, *shrunk = [one for one in labels.verdict.contenders if one.role == "control" and one.name.endswith(UNTRAINED)]
    assert base.parameters == 58_464
    assert base.quality == labels.contender("reference").quality
    assert {one.parameters for one in shrunk} == {one.parameters for one in labels.verdict.contenders if one.role == "finalist"}
    for control in (majority, base, *shrunk):
        assert control.versus_reference is not None
        assert control.quality.mean < 0.7


def test_costs_belong_to_the_models_they_stand_beside(labels: Found) -> None:
    for one in labels.verdict.contenders:
        if one.role == "control":
            assert one.cost is None
        else:
            assert one.cost is not None
            assert one.cost.parameters == one.parameters


def test_the_test_set_is_opened_once_and_the_opening_is_in_the_verdict(labels: Found) -> None:
    assert [one.reason for one in labels.verdict.openings] == ["confirm finalists, references and controls"]


def test_the_verdict_on_disk_is_the_one_returned_and_the_report_tells_it(labels: Found) -> None:
    kept = Verdict.model_validate_json((labels.folder / "verdict.json").read_text(encoding="utf-8"))
    assert kept == labels.verdict
    assert labels.verdict.sentence in (labels.folder / "report.md").read_text(encoding="utf-8")
    assert labels.verdict.sentence in unescape((labels.folder / "report.html").read_text(encoding="utf-8"))


def test_a_finished_run_started_again_trains_and_asks_nothing(labels: Found) -> None:
    again = planted.find(labels.task_file)
    assert again.progress.steps == []
    assert measured(again.verdict) == measured(labels.verdict)
    assert again.verdict.minutes > labels.verdict.minutes


def test_disagreements_are_counted_over_the_whole_test_set(labels: Found) -> None:
    counts = labels.verdict.disagreement_counts
    assert sum(counts.values()) == labels.verdict.split_sizes["test"] == 72
    assert counts["winner right"] > counts["reference right"] == 0
    assert {one.who_is_right for one in labels.verdict.disagreements} == {"winner"}
    for one in labels.verdict.disagreements:
        assert one.winner == one.gold == FIRST[one.prompt.split()[0]]
        assert one.reference != one.gold


def test_labels_drawn_at_random_end_in_none_and_the_sentence_says_so(find: Finder) -> None:
    found = find(label_rows(240, noise=True), goal={"seeds": 2})
    verdict = found.verdict
    assert (verdict.outcome, verdict.winner, verdict.winner_folder) == ("none", None, None)
    assert verdict.sentence.startswith("No candidate up to 19K parameters beats untrained (58.5K)")
    assert "short of the goal" in verdict.sentence
    assert any("good enough on validation" in note for note in verdict.notes)
    nearest = found.contender("finalist")
    assert nearest.meets_goal is False
    assert nearest.quality.mean < 0.6


def test_a_rule_about_choices_of_each_item_is_learnt_with_reasons(reasons: Found) -> None:
    assert reasons.verdict.outcome == "beats"
    assert reasons.contender("finalist").quality.mean >= 0.98


def test_rationales_are_controlled_by_their_label_only_twin(reasons: Found) -> None:
    finalist, twin = reasons.contender("finalist"), reasons.contender("control", "label-only twin")
    assert "rationales" in finalist.name
    assert "labels" in twin.name
    assert twin.parameters == finalist.parameters
    assert set(twin.per_seed) == set(finalist.per_seed)
    assert twin.versus_reference is not None
    assert len(reasons.progress.trainings) == 4


def test_a_published_figure_is_compared_unpaired_and_marked(reasons: Found) -> None:
    reference = reasons.contender("reference")
    assert reference.published_source == PUBLISHED["source"]
    assert reference.quality.mean == pytest.approx(0.5)
    for one in reasons.verdict.contenders:
        if one.versus_reference is not None:
            assert not one.versus_reference.paired
    assert "(unpaired)" in reasons.verdict.sentence
    assert reasons.verdict.disagreements == ()


def test_free_answers_are_learnt(find: Finder) -> None:
    found = find(copy_rows(240), kind="generate", fields=None, choices=None, metric="exact", max_new_tokens=4, goal={"seeds": 1})
    assert found.verdict.outcome == "beats"
    assert found.contender("finalist").quality.mean >= 0.95
    assert next(one.name for one in found.verdict.contenders if one.role == "control") == "majority answer"


def test_a_student_within_the_margin_of_a_trained_reference_matches(find: Finder) -> None:
    found = find(
        label_rows(240),
        teachers=[{"kind": "trained", "name": "tuned", "model": "MODEL", "epochs": 6}],
        reference="tuned",
        goal={"within": 0.1, "seeds": 1},
    )
    assert found.verdict.outcome == "matches"
    assert found.contender("reference").quality.mean >= 0.98
    assert found.contender("reference").parameters == 58_464
    assert "match tuned" in found.verdict.sentence
    assert "fine-tuned on the same data" in found.contender("reference").detail


def test_without_a_budget_to_speak_of_only_the_smallest_is_tried(find: Finder) -> None:
    sizes = {"from": "MODEL", "sizes": ["40K", "18K"]}
    found = find(label_rows(240, noise=True), students=sizes, goal={"seeds": 1}, budget={"minutes": 0.000001})
    assert [one.asked_size for one in found.verdict.trials] == ["18K"]
    assert found.verdict.budget_reached
    assert any("budget" in note and "larger candidates were not tried" in note for note in found.verdict.notes)


def test_a_finished_trial_counts_though_the_budget_ran_out_since(find: Finder) -> None:
    """The clock of a run that was taken up again must not take finished trials away."""
    sizes = {"from": "MODEL", "sizes": ["18K", "40K"]}
    found = find(label_rows(240, noise=True), students=sizes, goal={"seeds": 1}, budget={"minutes": 1})
    assert len(found.verdict.trials) == 2
    (found.folder / "clock.json").write_text('{"seconds": 3600}')
    again = planted.find(found.task_file)
    assert measured(again.verdict) == measured(found.verdict)


def test_lora_and_full_tuning_of_one_size_are_both_tried(find: Finder) -> None:
    found = find(label_rows(240), tuning=["full", "lora"], goal={"seeds": 1})
    full, lora = found.verdict.trials
    assert (full.tuning, lora.tuning) == ("full", "lora")
    assert full.parameters == lora.parameters == full.trained_parameters
    assert lora.trained_parameters != full.trained_parameters


def test_training_items_that_stand_in_test_are_left_out_and_counted(find: Finder) -> None:
    rows: list[Row] = label_rows(200)
    test = [{**row, "id": f"test-{row['id']}"} for row in rows[:40]]
    found = find(rows, files={"test.jsonl": test}, data={"train": "rows.jsonl", "test": "test.jsonl"}, goal={"seeds": 1})
    assert found.verdict.removed["train items also in test"] >= 40
    assert found.verdict.split_sizes["test"] == 40
