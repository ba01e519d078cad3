"""A stack that answers: traces, counts, footprint, and what becomes of questions that go wrong."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import tiny
from underdog import models
from underdog.answering import Answer, Answerer, Question, StepTrace
from underdog.errors import TaskError
from underdog.models import LanguageModel
from underdog.systems.stack.adapters import Bank, fresh
from underdog.systems.stack.answerer import Seat, StackAnswerer, StepCount, count_steps
from underdog.systems.stack.attribution import attribute
from underdog.systems.stack.chain import Chain
from underdog.systems.stack.reading import Base
from underdog.task.examples import Example
from underdog.task.stack import PRESETS

QUESTION = Question("q", "Where is my card?", choices=("card", "transfer"))


@pytest.fixture
def lm(tiny_lm) -> LanguageModel:
    return models.copied(tiny_lm)


def made(lm: LanguageModel, *, share: bool = False, tokens: int = 5, steps: str = "three_steps", **options) -> StackAnswerer:
    chain = Chain(tuple(step.model_copy(update={"max_tokens": tokens}) for step in PRESETS[steps]))
    count = len(chain.steps)
    base = Base(lm, Bank(lm, [fresh(lm, 4, seed) for seed in range(count)]), share)
    return StackAnswerer("tiny stack", chain, [Seat("b", n) for n in range(count)], {"b": base}, precision="float32", **options)


def test_every_steps_text_is_in_the_trace_and_the_answer_at_its_end(lm) -> None:
    system = made(lm)
    assert isinstance(system, Answerer)
    (answer,) = system.answer([QUESTION])
    assert [one.step for one in answer.trace] == ["keywords", "intermediate", "answer"]
    assert answer.trace[-1] == StepTrace("answer", answer.text or "", "chosen")
    assert answer.text in QUESTION.choices
    assert all(one.text for one in answer.trace)


def test_a_text_that_is_given_takes_the_place_of_what_would_be_written(lm) -> None:
    system = made(lm)
    (own,) = system.answer([QUESTION])
    (answer,) = system.answer_with([QUESTION], {"keywords": {"q": "card, place"}, "intermediate": {"other": "x"}})
    assert answer.trace[0] == StepTrace("keywords", "card, place", "given")
    assert answer.trace[1].finish != "given"
    assert answer.scores != own.scores


def test_questions_with_equal_ids_are_told_apart(lm) -> None:
    one, other = Question("", "Where is my card?", choices=("a", "b")), Question("", "Why?", choices=("c", "d"))
    first, second = made(lm).answer([one, other])
    assert first.text in one.choices
    assert second.text in other.choices


def test_the_footprint_counts_a_base_once_in_memory_and_once_for_each_step_that_uses_it(lm) -> None:
    system = made(lm)
    base, adapter = lm.parameter_count(), fresh(lm, 4, 0).parameters
    found = system.footprint()
    assert found.parameters == base + 3 * adapter
    assert found.parameters_per_answer == 3 * (base + adapter)
    assert found.weights_bytes == 4 * found.parameters


def test_steps_may_have_bases_of_their_own(lm, untied_lm) -> None:
    other = models.copied(untied_lm)
    chain = Chain(PRESETS["two_steps"])
    bases = {"small": Base(lm, Bank(lm, [fresh(lm, 4, 0)])), "other": Base(other, Bank(other, [fresh(other, 4, 0)]))}
    system = StackAnswerer("two", chain, [Seat("small", 0), Seat("other", 0)], bases, precision="float32")
    (answer,) = system.answer([QUESTION])
    assert answer.text in QUESTION.choices
    assert system.footprint().parameters == sum(
        base.lm.parameter_count() + base.bank.parameter_count() for base in bases.values()
    )


def test_a_question_that_does_not_fit_is_left_unanswered_with_the_numbers(lm) -> None:
    long = Question("long", "Where is my card? " * 60, choices=("card", "transfer"))
    right, left = made(lm).answer([QUESTION, long])
    assert right.problem is None
    assert (left.text, left.trace) == (None, ())
    assert left.problem is not None
    assert "step 'keywords': its prompt and text are" in left.problem
    assert "more than the model's 256 positions" in left.problem


def test_a_question_that_does_not_fit_never_goes_through_the_base(lm) -> None:
    seen = []
    lm.layers[0].register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape[1]))
    long = Question("long", "Where is my card? " * 60, choices=("card", "transfer"))
    right, left = made(lm, share=True).answer([QUESTION, long])
    assert (right.text in QUESTION.choices, left.text) == (True, None)
    assert 0 < max(seen) <= lm.max_length


def test_earlier_texts_are_cut_so_that_a_prompt_fits_or_the_question_is_refused(lm) -> None:
    given = {"keywords": {"q": "word " * 300}}
    (short,) = made(lm).answer_with([QUESTION], given)
    assert short.text in QUESTION.choices
    intermediate, answer = short.trace[1:]
    assert 150 < intermediate.shortened < 300
    assert answer.shortened > 0
    (refused,) = made(lm, shorten=False).answer_with([QUESTION], given)
    assert refused.text is None
    assert "too_long: shorten would cut earlier texts" in (refused.problem or "")
    assert [one.step for one in refused.trace] == ["keywords"]


def test_steps_that_write_nothing_or_run_on_are_counted(lm) -> None:
    ended = Answer("1", "a", trace=(StepTrace("keywords", "", "stop"), StepTrace("answer", "a", "chosen", 3)))
    ran_on = Answer("2", "a", trace=(StepTrace("keywords", "x y", "length"), StepTrace("answer", "a", "chosen")))
    assert count_steps([ended, ran_on, Answer("3", None, problem="too long")]) == [
        StepCount("keywords", texts=2, empty=1, at_limit=1, shortened=0),
        StepCount("answer", texts=2, empty=0, at_limit=0, shortened=1),
    ]
    counts = count_steps(made(lm, tokens=2).answer([QUESTION]))
    assert counts[0].at_limit == 1


def test_a_step_that_writes_nothing_does_not_stop_the_chain(lm) -> None:
    (answer,) = made(lm).answer_with([QUESTION], {"keywords": {"q": ""}})
    assert answer.text in QUESTION.choices
    assert answer.trace[0] == StepTrace("keywords", "", "given")


def test_a_prompt_kept_for_all_steps_goes_through_the_base_once(tmp_path: Path) -> None:
    lm = tiny.load(tiny.write_llama(tmp_path / "m", max_position_embeddings=1024))
    question = Question("q", "Where is my card? " * 40)
    seen = []
    lm.layers[0].register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].shape[1]))
    tokens = []
    for share in (False, True):
        system = made(lm, share=share, steps="four_steps")
        seen.clear()
        system.answer([question])
        tokens.append(sum(seen))
        system.bases["b"].bank.close()
    prompt = len(lm.encode([question.prompt])[0])
    assert tokens[0] - tokens[1] == 3 * prompt


def test_attribution_needs_texts_for_some_item(lm) -> None:
    examples = [Example(QUESTION, "card", 0)]
    with pytest.raises(TaskError, match=r"no item has a text to put in place of step 'keywords'. Texts are matched by .* ids"):
        attribute(made(lm), examples, {"keywords": {"other": "x"}}, "accuracy")


def test_steps_are_not_replaced_together_where_no_item_has_all_texts(lm) -> None:
    examples = [Example(replace(QUESTION, id=id), "card", 0) for id in ("a", "b")]
    found = attribute(made(lm), examples, {"keywords": {"a": "x"}, "intermediate": {"b": "y"}}, "accuracy")
    assert [(row.step, row.items) for row in found.steps] == [("keywords", 1), ("intermediate", 1)]


def test_attribution_needs_an_item_that_is_answered(lm) -> None:
    long = Question("long", "Where is my card? " * 60, choices=("card", "transfer"))
    with pytest.raises(
        TaskError, match=r"step 'keywords': none of 1 items is answered both ways. The first problem: step 'ke.* 256"
    ):
        attribute(made(lm), [Example(long, "card", 0)], {"keywords": {"long": "x"}}, "accuracy")


def test_using_an_adapter_ends_with_the_block_also_when_it_fails(lm) -> None:
    system = made(lm)
    tokens, positions = torch.tensor([[5, 6]]), torch.tensor([[0, 1]])
    before = lm.hidden(tokens, positions, None)
    bank = system.bases["b"].bank
    with torch.no_grad():
        for up in bank.ups:
            up.fill_(0.1)
    with pytest.raises(KeyError), bank.using(0):
        assert not torch.equal(lm.hidden(tokens, positions, None), before)
        raise KeyError
    assert torch.equal(lm.hidden(tokens, positions, None), before)
