"""Systems that only choose and answer, asked by lm-evaluation-harness."""

from collections.abc import Sequence

import numpy as np
import pytest

from underdog.answering import Answer, Footprint, Question
from underdog.errors import HarnessRefused
from underdog.harness.asked_answerer import LEAST, NO_SHARE, AskedAnswerer, as_question, prompt_and_cue, relative_scores
from underdog.harness.requests import LikelihoodRequest, TextRequest


class Scripted:
    """Chooses the choice of the longest text, or says what it is told to; remembers what it was asked."""

    name = "scripted"

    def __init__(self, answers: Sequence[Answer] | None = None) -> None:
        self.answers = answers
        self.asked: list[Question] = []

    def footprint(self) -> Footprint:
        return Footprint(0, 0, 0)

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        self.asked += questions
        return list(self.answers) if self.answers is not None else [self._longest(question) for question in questions]

    def _longest(self, question: Question) -> Answer:
        if not question.choices:
            return Answer(question.id, f"about {question.prompt}. END and more")
        lengths = np.array([float(len(choice)) for choice in question.choices])
        shares = lengths - np.log(np.exp(lengths).sum())
        best = int(lengths.argmax())
        return Answer(question.id, question.choices[best], best, tuple(shares))


def requests(document: int, *pairs: tuple[str, str]) -> list[LikelihoodRequest]:
    return [LikelihoodRequest("zoo", document, context, continuation) for context, continuation in pairs]


def test_a_documents_choices_are_one_question_and_the_answer_scores_highest_however_it_is_counted():
    system = Scripted()
    asked = requests(0, ("Q: Who?\nAnswer:", " an ox"), ("Q: Who?\nAnswer:", " a crocodile"), ("Q: Who?\nAnswer:", " a cat"))
    other = requests(1, ("It barks, so it is", " a dog"), ("It barks, so it is", " a"))
    mixed = [asked[0], other[0], asked[1], other[1], asked[2]]
    found = dict(AskedAnswerer(system).likelihoods(mixed))
    assert [(q.prompt, q.cue, q.choices) for q in system.asked] == [
        ("Q: Who?", "\nAnswer:", ("an ox", "a crocodile", "a cat")),
        ("It barks, so it is", "", ("a dog", "a")),
    ]
    zoo = np.array([found[index].nats for index in (0, 2, 4)])
    assert zoo[1] == 0 and (zoo[[0, 2]] < 0).all()
    assert np.argmax(zoo / np.array([5, 11, 5])) == 1  # acc_norm's way
    assert [found[index].greedy for index in range(5)] == [False, True, True, False, False]
    shares = np.exp(zoo) / np.exp(zoo).sum()
    lengths = np.array([5.0, 11, 5])
    np.testing.assert_allclose(shares, np.exp(lengths) / np.exp(lengths).sum(), atol=1e-9)


def test_where_the_contexts_differ_the_choices_start_at_the_word_where_they_part():
    sentence = "Sarah was a better surgeon than Maria so"
    asked = requests(0, (f"{sentence} Sarah", " got the easier cases."), (f"{sentence} Maria", " got the easier cases."))
    question, choice_of = as_question(asked)
    assert (question.prompt, question.cue) == (sentence, "")
    assert question.choices == ("Sarah got the easier cases.", "Maria got the easier cases.")
    assert choice_of == [0, 1]
    alike, _ = as_question(requests(0, ("It was Joan", " who left"), ("It was John", " who left")))
    assert (alike.prompt, alike.choices) == ("It was", ("Joan who left", "John who left"))


def test_equal_choices_are_asked_once_and_score_alike():
    question, choice_of = as_question(requests(0, ("Q", " yes"), ("Q", " no"), ("Q", "\nyes")))
    assert (question.choices, choice_of) == (("yes", "no"), [0, 1, 0])
    found = dict(AskedAnswerer(Scripted()).likelihoods(requests(0, ("Q", " yes"), ("Q", " no"), ("Q", " yes"))))
    assert found[0] == found[2] and found[0].nats == 0


def test_scores_without_shares_and_with_equal_shares_still_say_what_the_answer_is():
    assert relative_scores(Answer("a", "y", 1), 3) == [NO_SHARE, 0.0, NO_SHARE]
    assert relative_scores(Answer("a", "y", 1, (-0.5, -0.5)), 2) == [LEAST, 0.0]
    assert relative_scores(Answer("a", "y", 1, (-0.1, -3.0)), 2) == [LEAST, 0.0]  # a vote may overrule the likelier choice
    assert relative_scores(Answer("a", "y", 0, (0.0, float("-inf"))), 2) == [0.0, NO_SHARE]


def test_the_last_line_is_what_asks_only_if_it_ends_with_a_colon_and_something_stands_before_it():
    assert prompt_and_cue("Q: 1?\nA. x\nB. y\nAnswer: ") == ("Q: 1?\nA. x\nB. y", "\nAnswer:")
    assert prompt_and_cue("Two lines\nwithout a cue") == ("Two lines\nwithout a cue", "")
    assert prompt_and_cue("Answer:") == ("Answer:", "")


def test_free_answers_end_at_the_first_stop_text():
    texts = dict(
        AskedAnswerer(Scripted()).write([TextRequest("zoo", 0, "Q: bees\nA:", (" END", "\n")), TextRequest("zoo", 1, "x")])
    )
    assert texts == {0: "about Q: bees.", 1: "about x. END and more"}


def refused(act) -> str:
    with pytest.raises(HarnessRefused) as caught:
        list(act())
    return str(caught.value)


def test_what_only_a_model_can_tell_is_refused():
    system = AskedAnswerer(Scripted())
    assert "task zoo, document 4: asks for the likelihood of one text" in refused(
        lambda: system.likelihoods(requests(4, ("a", " b")))
    )
    unconditional = requests(4, ("a", " b"), ("a", " c"), ("", " b"), ("", " c"))
    assert "without their question (as acc_mutual_info does)" in refused(lambda: system.likelihoods(unconditional))
    assert "one of its choices is empty" in refused(lambda: system.likelihoods(requests(4, ("a", " "), ("a", " c"))))
    assert "no beginning in common" in refused(lambda: system.likelihoods(requests(4, ("Ann", " left"), ("Bob", " left"))))
    assert "scripted chooses and answers, but knows no likelihood of a text" in refused(lambda: system.rolling(["a"]))
    drawn = TextRequest("zoo", 2, "a", temperature=0.7)
    assert "asks for drawn texts (temperature 0.7), but scripted" in refused(lambda: system.write([drawn]))


def test_a_missing_answer_is_never_counted_as_one():
    system = AskedAnswerer(Scripted([Answer("zoo 0", None, problem="300 tokens are more than 256")]))
    said = refused(lambda: system.likelihoods(requests(0, ("a", " b"), ("a", " c"))))
    assert "scripted left 1 of 1 questions unanswered" in said and "300 tokens are more than 256" in said
    assert "task file" in said
    undecided = AskedAnswerer(Scripted([Answer("zoo 0", "neither")]))
    assert "no reason given" in refused(lambda: undecided.likelihoods(requests(0, ("a", " b"), ("a", " c"))))
