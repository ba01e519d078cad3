"""A student that sees no answers learns a planted rule from what a trained teacher expects, in a run that does nothing twice."""

import json
from pathlib import Path

import pytest

import tiny
from flow import planted
from flow.planted import Found, label_rows
from underdog.errors import SignalsDamaged, TokenizersDiffer
from underdog.search.estimate import estimate

TEACHER = {"name": "taught", "kind": "trained", "model": "MODEL"}
RECIPES = [
    {"kind": "logits", "name": "alone", "answer_weight": 0, "weight": 4.0, "over": "answer"},
    {"kind": "logits", "name": "beside labels", "loss": "jsd"},
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Found:
    folder = tmp_path_factory.mktemp("logits")
    return planted.find(write(folder))


def write(folder: Path) -> Path:
    return planted.write_task(
        folder, label_rows(240), teachers=[TEACHER], reference="taught", recipes=RECIPES,
        students={"from": "MODEL", "sizes": ["40K"]}, goal={"seeds": 1, "within": 0.05, "every_recipe": True},
    )  # fmt: skip


def test_the_rule_is_learnt_from_the_teacher_alone(found: Found) -> None:
    for name in ("alone", "beside labels"):
        (one,) = [one for one in found.verdict.contenders if name in one.name]
        assert one.quality.mean >= 0.95, one.name


def test_the_teacher_is_trained_and_recorded_once(found: Found) -> None:
    recorded = list((found.folder / "signals").iterdir())
    assert len(recorded) == 1, "two recipes, one set of records"
    header = json.loads((recorded[0] / "header.json").read_text())
    assert header["teacher"] == "taught"
    assert sum(text.startswith("Recorded ") for text in found.progress.said) == 1
    assert sum("whole model" in name for name in found.progress.trainings) == 1


def test_what_was_checked_before_training_is_noted(found: Found) -> None:
    notes = [json.loads(path.read_text())["facts"]["notes"] for path in (found.folder / "trials").iterdir()]
    checked = [note for note in notes if any("is followed at" in text for text in note)]
    assert len(checked) == 2
    assert all(any("nats per item" in text for text in note) for note in checked)


def test_taken_up_again_nothing_is_recorded_or_trained_anew(found: Found) -> None:
    again = planted.find(found.task_file)
    assert again.progress.trainings == []
    assert not any(text.startswith("Recorded ") for text in again.progress.said)
    assert planted.measured(again.verdict) == planted.measured(found.verdict)


def test_damaged_records_are_named_and_nothing_is_learnt_from_them(found: Found) -> None:
    (folder,) = (found.folder / "signals").iterdir()
    data = folder / "signals.safetensors"
    whole = data.read_bytes()
    for path in (found.folder / "trials").iterdir():
        if "alone" in json.loads(path.read_text())["label"]:
            path.unlink()
    data.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(SignalsDamaged, match=r"damaged\. Its SHA-256 is .* Delete the folder, and start again"):
        planted.find(found.task_file)
    data.write_bytes(whole)


def test_a_teacher_with_another_tokenizer_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    other = tiny.write_llama(tmp_path / "other")
    tiny.byte_fallback_tokenizer().save_pretrained(other)
    teachers = [{"name": "untrained", "model": "MODEL"}, TEACHER | {"model": str(other)}]
    task_file = planted.write_task(
        tmp_path, label_rows(120), teachers=teachers, reference="untrained", recipes=["labels", "logits"]
    )
    with pytest.raises(TokenizersDiffer, match=r"and teacher 'taught' do not share a tokenizer: .* recipe 'rationales'"):
        planted.find(task_file)
    assert not list(tmp_path.glob("**/students/*"))
    task = planted.load(task_file)
    with pytest.raises(TokenizersDiffer):
        estimate(task, task.settings, planted.Recorder())
