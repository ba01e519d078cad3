"""Stacks in a task file: what is refused before anything loads, in words."""

from typing import Any

import pytest

from underdog.task.stack import PRESETS, Stack, Step, fields_of, shared_lines, stack_problems
from underdog.task.teachers import Asking, LocalTeacher, RecordedTeacher, RemoteTeacher

FREE = RecordedTeacher(name="PaLM", rationales="palm.jsonl", saw_answer=False)
FORCED = RecordedTeacher(name="FLAN", rationales="flan.jsonl")
ASKED = LocalTeacher(name="small", model="smollm2-135m-instruct", ask=Asking())
SILENT = LocalTeacher(name="silent", model="smollm2-135m-instruct")
TEACHERS = (FREE, FORCED, ASKED, SILENT)


def problems(**fields: Any) -> list[str]:
    """What is wrong with a stack, place and text."""
    stack = Stack.model_validate({"teacher": "small", **fields})
    return [f"{'.'.join(map(str, place))}: {text}" for place, text in stack_problems(stack, TEACHERS)]


def steps(*prompts: tuple[str, str], **fields: Any) -> tuple[Step, ...]:
    return tuple(Step(name=name, prompt=prompt, instruction="Write it.", **fields) for name, prompt in prompts)


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_are_whole_chains_that_begin_alike(preset: str) -> None:
    assert problems(steps=preset, share_prompt=True) == []
    chain = PRESETS[preset]
    assert chain[-1].name == "answer"
    assert shared_lines(chain) == 2
    assert [fields_of(step.prompt)[:2] for step in chain] == [["question", "choices"]] * len(chain)


def test_an_unknown_field_is_answered_with_the_nearest_one() -> None:
    (found,) = problems(
        steps=steps(("keywords", "{question}\nKeywords:"), ("answer", "{question} {keyword} {keywords}\nAnswer:"))
    )
    assert found == (
        "steps.1.prompt: the prompt of step 'answer' holds the field 'keyword'. Did you mean 'keywords'? "
        "Allowed: {question}, {choices}, {keywords}, the name alone."
    )


def test_a_field_with_a_format_of_its_own_is_refused() -> None:
    (found,) = problems(steps=steps(("a", "{question:>9}"), ("answer", "{question} {a}")))
    assert "step 'a' holds the field 'question'" in found
    assert "the name alone" in found


def test_a_broken_prompt_is_named() -> None:
    found = problems(steps=steps(("a", "{question"), ("answer", "{question} {a}")))
    assert "steps.0.prompt: the prompt of step 'a' is broken: expected '}' before end of string." in found[0]


def test_a_cycle_is_refused_whether_through_a_later_step_or_itself() -> None:
    later, own = problems(steps=steps(("a", "{question} {b}"), ("b", "{question} {a} {b}"), ("answer", "{a} {b}")))
    assert later == (
        "steps.0.prompt: step 'a' shows {b}, a step that comes after it: a cycle. "
        "Put it later, or show one of: {question}, {choices}."
    )
    assert own == "steps.1.prompt: step 'b' shows {b}, its own text: a cycle. Allowed: {question}, {choices}, {a}."


def test_the_last_step_answers() -> None:
    (found,) = problems(steps=steps(("a", "{question}"), ("verdict", "{question} {a}")))
    assert found == "steps.1.name: the last step is 'verdict'; it answers, and must be called 'answer'."


def test_a_step_that_nobody_reads_is_refused() -> None:
    (found,) = problems(steps=steps(("a", "{question}"), ("b", "{question}"), ("answer", "{question} {b}")))
    assert found == "steps.0.name: no step reads what step 'a' writes. Show {a} in a later one, or drop it."


def test_names_are_told_apart() -> None:
    assert problems(steps=steps(("a", "{question}"), ("a", "{question} {a}"), ("answer", "{a}")))[0] == (
        "steps: 2 steps are called 'a'. Give each step a name of its own."
    )
    assert problems(steps=steps(("choices", "{question}"), ("answer", "{question} {choices}")))[0] == (
        "steps: a step is called 'choices', as a field is. Give each step a name of its own."
    )


def test_a_stack_that_does_not_show_the_question_is_refused() -> None:
    found = problems(steps=steps(("a", "Think:"), ("answer", "{a}\nAnswer:")))
    assert found == ["steps.0.prompt: no step shows {question}: every item would be asked the same. Add it."]


def test_a_shared_prompt_needs_prompts_that_begin_alike() -> None:
    (found,) = problems(steps=steps(("a", "Q: {question}\nA:"), ("answer", "{question}\n{a}\nAnswer:")), share_prompt=True)
    assert found.startswith("share_prompt: share_prompt needs prompts that all begin with the same lines")


def test_the_teacher_must_write() -> None:
    assert problems(teacher="smal") == [
        "teacher: teacher 'smal' is none that writes: one with `ask`, or with `rationales`. Did you mean 'small'? "
        "Such teachers: PaLM, FLAN, small."
    ]
    assert "is none that writes" in problems(teacher="silent")[0]


def test_of_reasons_only_keywords_and_intermediate_texts_can_be_made() -> None:
    assert problems(teacher="PaLM", steps="three_steps") == []
    assert problems(teacher="PaLM", steps="four_steps") == [
        "steps.0.name: 'PaLM' has left reasons only, of which no text for step 'understand' can be made. "
        "Can be made: keywords, intermediate (three_steps, two_steps). Or name a teacher that is asked."
    ]


def test_a_teacher_that_is_asked_needs_to_be_told_what_to_write() -> None:
    own = (Step(name="a", prompt="{question}\nA:"), Step(name="answer", prompt="{question}\n{a}\nAnswer:"))
    assert problems(steps=own) == [
        "steps.0.instruction: step 'a' has no `instruction`, by which 'small' would know what to write. Add one."
    ]


@pytest.mark.parametrize("training", ["per_step", "global_then_local", "own_upstream"])
def test_texts_that_have_seen_the_answer_are_learnt_only_across_folds(training: str) -> None:
    """They would be read by the next step; an adapter that has learnt an item's text by heart repeats it."""
    (found,) = problems(teacher="FLAN", steps="two_steps", training=training)
    assert found.startswith("training: 'FLAN' wrote with the gold answer in view: its texts may be learnt, but never be read")
    assert "`training: own_upstream` and `folds: 2`" in found
    assert problems(teacher="FLAN", steps="two_steps", training="own_upstream", folds=2) == []


def test_a_teacher_asked_towards_the_answer_has_seen_it() -> None:
    forced = RemoteTeacher(name="big", model="m", url="http://localhost:1/v1", ask=Asking(mode="forced"))
    stack = Stack(teacher="big")
    assert [place for place, _ in stack_problems(stack, [forced])] == [("training",)]


def test_folds_are_for_own_upstream() -> None:
    assert problems(folds=3) == [
        "folds: folds are for training own_upstream, not per_step. Remove `folds`, or write own_upstream."
    ]
