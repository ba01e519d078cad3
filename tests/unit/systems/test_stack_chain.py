"""Prompts of a stack's steps: how they are rendered, cut to fit, and put into rounds."""

import pytest

from underdog.answering import Question
from underdog.systems.stack.chain import Chain
from underdog.task.stack import PRESETS, Step

FOUR = Chain(PRESETS["four_steps"])
QUESTION = Question("q", "Where is {my} card?", choices=("here", "there"))


def words(question: Question) -> int:
    return len((question.prompt + question.cue).split())


def test_a_step_shows_the_question_its_choices_and_what_was_written_before() -> None:
    asked = FOUR.ask(2, QUESTION, {"understand": "a {place}", "keywords": "card, place"})
    assert asked.prompt == "Where is {my} card?\nA. here\nB. there"
    assert asked.cue == "\nAsked for: a {place}\nKeywords: card, place\nThoughts:"
    assert asked.choices == ()
    assert FOUR.ask(3, QUESTION, {"understand": "", "keywords": "", "intermediate": ""}).choices == ("here", "there")


def test_all_steps_have_the_same_prompt_and_differ_in_their_cue() -> None:
    texts = {"understand": "u", "keywords": "k", "intermediate": "i"}
    asked = [FOUR.ask(number, QUESTION, texts) for number in range(4)]
    assert len({one.prompt for one in asked}) == 1
    assert len({one.cue for one in asked}) == 4


def test_a_line_of_choices_is_left_out_where_there_are_none_to_list() -> None:
    assert FOUR.ask(0, Question("q", "Why?"), {}).prompt == "Why?"
    assert Chain(PRESETS["four_steps"], lists_choices=False).ask(0, QUESTION, {}).prompt == QUESTION.prompt


def test_prompts_that_begin_differently_share_nothing() -> None:
    chain = Chain((Step(name="a", prompt="First: {question}"), Step(name="answer", prompt="{a}\nAnswer:")))
    assert (chain.shared, chain.ask(1, QUESTION, {"a": "x"})) == (0, Question("q", "x\nAnswer:", "", QUESTION.choices))


def test_rounds_follow_from_what_the_steps_read() -> None:
    assert FOUR.levels == ((0,), (1,), (2,))
    prompts = {"a": "{question}", "b": "{question} {a}", "c": "{question}", "d": "{c} {a}", "answer": "{b} {d}"}
    chain = Chain(tuple(Step(name=name, prompt=prompt) for name, prompt in prompts.items()))
    assert chain.levels == ((0, 2), (1, 3))
    assert chain.reads(3) == ("c", "a")


TEXTS = {"understand": "one two three", "keywords": "one, two", "intermediate": " ".join(f"w{n}" for n in range(12))}


def fitting(most: int, *, shorten: bool = True):
    return FOUR.fitting(3, QUESTION, TEXTS, most=most, needed=words, shorten=shorten)


def test_what_fits_is_left_as_it_is() -> None:
    whole = words(FOUR.ask(3, QUESTION, TEXTS))
    assert (fitting(whole).question, fitting(whole).shortened, fitting(whole).problem) == (FOUR.ask(3, QUESTION, TEXTS), 0, None)


def test_the_longest_text_loses_first_and_from_its_end() -> None:
    whole = words(FOUR.ask(3, QUESTION, TEXTS))
    found = fitting(whole - 4)
    assert "Thoughts: w0 w1 w2 w3 w4 w5 w6 w7\n" in found.question.cue
    assert "Asked for: one two three\nKeywords: one, two\n" in found.question.cue
    assert found.shortened == 4
    found = fitting(whole - 10)
    assert "Asked for: one two\nKeywords: one, two\nThoughts: w0 w1\n" in found.question.cue
    assert found.shortened == 11


def test_a_text_that_is_short_enough_keeps_its_lines() -> None:
    texts = TEXTS | {"understand": "one\ntwo three"}
    whole = words(FOUR.ask(3, QUESTION, texts))
    found = FOUR.fitting(3, QUESTION, texts, most=whole - 4, needed=words, shorten=True)
    assert "Asked for: one\ntwo three\nKeywords: one, two\nThoughts: w0 w1 w2 w3 w4 w5 w6 w7\n" in found.question.cue


def test_what_does_not_fit_is_refused_with_the_numbers() -> None:
    whole = words(FOUR.ask(3, QUESTION, TEXTS))
    assert fitting(whole - 1, shorten=False).problem == (
        f"step 'answer': its prompt and text are {whole} tokens, more than the model's {whole - 1} positions "
        "(too_long: shorten would cut earlier texts)"
    )
    assert fitting(9).problem == (
        f"step 'answer': its prompt and text are {whole} tokens, more than the model's 9 positions, even without earlier texts"
    )
    first = FOUR.fitting(0, QUESTION, {}, most=5, needed=words, shorten=True)
    assert first.problem == "step 'understand': its prompt and text are 10 tokens, more than the model's 5 positions"


@pytest.mark.parametrize("most", range(12, 40))
def test_no_more_is_cut_than_must_be(most: int) -> None:
    found = fitting(most)
    assert found.problem is not None or words(found.question) <= most
    if found.shortened:
        assert words(found.question) > most - 3  # one word more of each of the three texts would not fit
