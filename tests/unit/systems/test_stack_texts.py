"""What teachers write for inner steps: asked one step after the other, kept, never asked twice, typed by what they saw."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from flow.planted import Row, label_rows, load, write_rows, write_task
from underdog.errors import TaskError
from underdog.knowledge.store import Store
from underdog.systems.stack.texts import collect_steps, estimate_steps, record_steps, step_requests, tidy
from underdog.task.rationales import ForcedRationale, FreeRationale
from underdog.task.splits import split
from underdog.task.stack import PRESETS, Stack
from underdog.task.task import Task
from underdog.teachers.writing import Failure, Reply, Request


@dataclass
class Scripted:
    """Says what the prompt's last line asks for; some prompts it gives up."""

    gives_up: Callable[[str], bool] = lambda prompt: False
    asked: list[str] = field(default_factory=list)

    def write(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Reply | Failure]]:
        for request in requests:
            self.asked.append(request.prompt)
            last = request.prompt.rpartition("\n")[2]
            said = {
                "Understand:": "the side",
                "Keywords:": "Keywords: card, side\nand more",
                "Intermediate:": "It begins just so.",
            }[last]
            yield request, Failure("refused") if self.gives_up(request.prompt) else Reply(said, "stop", 1, 1, 0.0)


def made(folder: Path, **ask: Any) -> Task:
    teachers = [{"name": "big", "model": "MODEL", "ask": ask}]
    return load(write_task(folder, label_rows(30), teachers=teachers, reference="big"))


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return made(tmp_path)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "knowledge.sqlite") as store:
        yield store


def test_steps_are_asked_one_after_the_other_each_with_what_was_written_before(task: Task, store: Store) -> None:
    train, writer = split(task).train, Scripted()
    done = record_steps(task, Stack(teacher="big"), train, store, writer=writer)
    assert [one.asked for one in done] == [len({example.question.prompt for example in train})] * 3
    assert [one.teacher for one in done] == ["big (understand)", "big (keywords)", "big (intermediate)"]
    first, third = writer.asked[0], writer.asked[-1]
    assert first.startswith("Say in one short sentence what the question asks for. Do not answer it.\n\nQuestion: ")
    assert first.endswith("\nA. left\nB. middle\nC. right\nUnderstand:")
    assert third.endswith("\nUnderstand: the side\nKeywords: card, side\nIntermediate:")


def test_nothing_is_asked_twice(task: Task, store: Store) -> None:
    train, again = split(task).train, Scripted()
    record_steps(task, Stack(teacher="big"), train, store, writer=Scripted())
    assert record_steps(task, Stack(teacher="big"), train, store, writer=again) == []
    record_steps(task, Stack(teacher="big", steps="three_steps"), train[:3], store, writer=again)
    assert all("Understand" not in prompt for prompt in again.asked)  # a shorter chain asks in other words
    assert len(again.asked) == 6


def test_what_asking_takes_is_reckoned_without_asking(task: Task, store: Store) -> None:
    train, stack = split(task).train, Stack(teacher="big")
    before = estimate_steps(task, stack, train, None)
    assert [(one.calls, one.kept) for one in before] == [(len(train), 0)] * 3
    assert before[1].input_tokens > before[0].input_tokens  # an earlier text of the greatest length stands in the prompt
    record_steps(task, stack.model_copy(update={"steps": PRESETS["four_steps"]}), train[:5], store, writer=Scripted())
    assert [(one.calls, one.kept) for one in estimate_steps(task, stack, train, store)] == [(len(train) - 5, 5)] * 3


def test_what_was_written_is_collected_for_inputs(task: Task, store: Store) -> None:
    train = split(task).train
    record_steps(task, Stack(teacher="big"), train, store, writer=Scripted())
    found = collect_steps(task, Stack(teacher="big"), train, store=store)
    assert found.notes == ()
    assert set(found.inputs("keywords").values()) == {"card, side"}
    assert {type(one) for by_item in found.by_step.values() for one in by_item.values()} == {FreeRationale}


def test_an_item_that_one_step_has_nothing_for_is_not_asked_about_further(task: Task, store: Store) -> None:
    train = split(task).train
    lost = train[0].question.prompt
    writer = Scripted(gives_up=lambda prompt: f"Question: {lost}\n" in prompt and prompt.endswith("Keywords:"))
    record_steps(task, Stack(teacher="big"), train, store, writer=writer)
    assert not any(prompt.endswith("Intermediate:") and f"Question: {lost}\n" in prompt for prompt in writer.asked)
    found = collect_steps(task, Stack(teacher="big"), train, store=store)
    assert train[0].id in found.by_step["understand"]
    assert train[0].id not in found.by_step["intermediate"]
    assert found.notes[0].startswith("step 'keywords' has no text of the teacher for 1 of")


def test_a_teacher_that_sees_the_answer_writes_what_no_input_takes(tmp_path: Path, store: Store) -> None:
    task, writer = made(tmp_path, mode="forced"), Scripted()
    train = split(task).train
    stack = Stack(teacher="big", steps="two_steps", training="own_upstream", folds=2)
    record_steps(task, stack, train, store, writer=writer)
    assert f"\nRight answer: {train[0].answer}\n" in writer.asked[0]
    found = collect_steps(task, stack, train, store=store)
    assert {type(one) for one in found.by_step["intermediate"].values()} == {ForcedRationale}
    with pytest.raises(TypeError, match="written with the answer in view"):
        found.inputs("intermediate")


def test_the_answer_is_nowhere_in_what_a_free_teacher_is_asked(task: Task, store: Store) -> None:
    stack, train = Stack(teacher="big", steps="two_steps"), split(task).train
    from underdog.knowledge.asking import asked

    requests = step_requests(task, stack, asked(task)[0], 0, train, {})
    assert all("Right answer" not in request.prompt for _, request in requests)
    assert {request.sampling.max_tokens for _, request in requests} == {PRESETS["two_steps"][0].max_tokens}


def test_nothing_recorded_says_what_to_run(task: Task, store: Store) -> None:
    with pytest.raises(
        TaskError, match=r"nothing of what big would write for the steps of 'stack' is recorded yet .*: underdog record"
    ):
        collect_steps(task, Stack(teacher="big"), split(task).train, store=store)
    with pytest.raises(TaskError, match="underdog record"):
        collect_steps(made(task.folder / "other"), Stack(teacher="big"), split(task).train)


def test_filters_for_sentences_pass_over_keywords(task: Task, store: Store) -> None:
    train = split(task).train
    record_steps(task, Stack(teacher="big"), train, store, writer=Scripted())
    filters = ("cut_off", "too_short", "glitch")
    stack = Stack(teacher="big", steps="four_steps", select=filters)
    with pytest.raises(TaskError, match=r"the filters leave none of the .* texts of teacher 'understand'"):
        collect_steps(task, stack, train, store=store)  # "the side" is no sentence
    chain = tuple(step.model_copy(update={"sentences": step.name == "intermediate"}) for step in PRESETS["four_steps"])
    found = collect_steps(task, stack.model_copy(update={"steps": chain}), train, store=store)
    assert [(one.teacher, one.filter) for one in found.selected] == [
        ("understand", "glitch"), ("keywords", "glitch"), *[("intermediate", name) for name in ("glitch", "cut_off", "too_short")]
    ]  # fmt: skip


def reasons(rows: Sequence[Row]) -> list[Row]:
    return [{"id": row["id"], "why": f"It says {row['text'].split()[0]}. So the answer is {row['label']}."} for row in rows]


def test_of_a_file_of_reasons_steps_are_made(tmp_path: Path) -> None:
    rows = label_rows(30)
    write_rows(tmp_path / "why.jsonl", reasons(rows[:25]))
    teachers = [{"name": "PaLM", "rationales": "why.jsonl", "field": "why", "saw_answer": False}, {"name": "m", "model": "MODEL"}]
    task = load(write_task(tmp_path, rows, teachers=teachers, reference="m"))
    train, stack = split(task).train, Stack(teacher="PaLM", steps="three_steps")
    found = collect_steps(task, stack, train)
    firsts = {example.id: example.question.prompt.split()[0] for example in train if example.id in found.by_step["intermediate"]}
    assert found.inputs("intermediate") == {id: f"It says {word}." for id, word in firsts.items()}
    assert found.inputs("keywords") == firsts
    assert len(firsts) + int(found.notes[0].split(" for ")[1].split()[0]) == len(train)
    assert record_steps(task, stack, train, Store.open(tmp_path / "k.sqlite")) == []
    write_rows(tmp_path / "why.jsonl", [{"id": "nobody", "why": "x"}])
    with pytest.raises(TaskError, match=r"none of the .* items has a reason here"):
        collect_steps(task, stack, train)


def test_replies_are_tidied() -> None:
    _, words, sentences, _ = PRESETS["four_steps"]
    assert tidy("<think>hm</think>\n**Keywords:** a, b\n\nBecause", words) == "a, b"
    assert tidy("Intermediate: One.\nTwo.", sentences) == "One.\nTwo."
    assert tidy("<think>never ends", words) == ""
