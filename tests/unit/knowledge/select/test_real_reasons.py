"""The filters on the real TinyLLM reasons: garbage goes, and clean texts stay as they are."""

import gzip
import json
import time
from pathlib import Path
from typing import Any

import pytest

from underdog.answering import Question
from underdog.knowledge.select.conclusions import concluded
from underdog.knowledge.select.select import Selected, select
from underdog.knowledge.select.sentences import up_to_last_sentence
from underdog.task.examples import Example
from underdog.task.overlap import grams
from underdog.task.rationales import ForcedRationale, Rationale
from underdog.task.recipes import CLEAN

pytestmark = pytest.mark.data

LLAMA, FLAN = "llama-2-7b", "flan-t5-xlarge"


def rows(data: Path, name: str) -> list[dict[str, Any]]:
    path = next(path for path in (data / "tinyllm" / f"{name}.jsonl.gz", data / "tinyllm" / f"{name}.jsonl") if path.exists())
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return [json.loads(line) for line in text.splitlines()]


def items(data: Path, name: str, part: str) -> list[Example]:
    return [
        Example(Question(row["id"], row["question"], choices=tuple(row["choices"])), row["choices"][row["answer"]], row["answer"])
        for row in rows(data, f"{name}/{part}")
    ]


def written(data: Path, name: str, *teachers: str) -> dict[str, dict[str, Rationale]]:
    """Texts by teacher and item; "nan" stands for none."""
    return {
        teacher: {
            row["id"]: ForcedRationale(row["id"], teacher, row["rationale"])
            for row in rows(data, f"{name}/rationales_{teacher}_train")
            if row["rationale"].strip() not in ("", "nan")
        }
        for teacher in teachers
    }


def counts(summaries: tuple[Selected, ...], teacher: str) -> dict[str, tuple[int, int]]:
    return {each.filter: (each.changed, each.dropped) for each in summaries if each.teacher == teacher}


@pytest.mark.parametrize(
    ("name", "garbage_starts", "new_questions"),
    [("obqa", 2501, 1673), ("arc", 151, 288), ("riddle", 1559, 765)],
)
def test_what_the_datas_readme_counts_is_found_in_llama_2_and_flan_t5_is_left_alone(
    data: Path, name: str, garbage_starts: int, new_questions: int
) -> None:
    reasons = written(data, name, LLAMA, FLAN)
    selection = select(reasons, items(data, name, "train"), CLEAN)
    noisy, clean = (counts(selection.summaries, teacher) for teacher in (LLAMA, FLAN))
    assert 0.98 * garbage_starts <= sum(noisy["glitch"]) <= 1.2 * garbage_starts
    assert sum(noisy["run_on"]) >= new_questions
    assert clean["glitch"] == clean["run_on"] == clean["encoding"] == (0, 0)
    assert len(selection.rationales[FLAN]) >= 0.98 * len(reasons[FLAN])
    assert len(selection.rationales[LLAMA]) >= 0.75 * len(reasons[LLAMA])


def test_what_is_left_is_whole_and_never_concludes_on_another_choice(data: Path) -> None:
    train = {example.id: example for example in items(data, "riddle", "train")}
    left = select(written(data, "riddle", LLAMA), list(train.values()), CLEAN).rationales[LLAMA]
    texts = {id: rationale.text for id, rationale in left.items()}
    assert {concluded(text, train[id].question.choices) for id, text in texts.items()} == {None, 0, 1, 2, 3, 4}
    assert all(concluded(text, train[id].question.choices) in (None, train[id].gold) for id, text in texts.items())
    whole = [text for text in texts.values() if up_to_last_sentence(text) == text]
    assert len(whole) >= 0.97 * len(texts)
    assert not any("Question:" in text or "sierp" in text or "Unterscheidung" in text for text in texts.values())


def test_all_of_piqa_takes_seconds(data: Path) -> None:
    reasons, train = written(data, "piqa", FLAN), items(data, "piqa", "train")
    test_grams = frozenset().union(*(grams(example.question.prompt) for example in items(data, "piqa", "test")))
    started = time.process_time()
    selection = select(reasons, train, CLEAN, test_grams=test_grams)
    assert time.process_time() - started < 10
    assert len(selection.rationales[FLAN]) >= 0.99 * len(reasons[FLAN]) > 15_000
