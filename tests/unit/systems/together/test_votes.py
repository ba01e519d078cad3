"""Votes: who wins, how ties end, and who abstains."""

from dataclasses import replace
from math import exp

import pytest

from underdog.answering import Held
from underdog.errors import CannotDecide
from underdog.progress import Silent
from underdog.systems.together.samples import Samples
from underdog.systems.together.votes import Calibrated, Vote, confidence_of, majority, same_for
from underdog.teachers.writing import Sampling
from unit.systems.together.scripted import Member, ScriptedWriter, question, said, speaker, weighed


def member(name: str, *answers, **more) -> Member:
    return Member(name, {one.question_id: one for one in answers}, **more)


def test_the_majority_wins_and_its_share_is_its_confidence() -> None:
    vote = Vote("three", [member("a", said("q", "red")), member("b", said("q", "blue")), member("c", said("q", "blue"))])
    (answer,) = vote.answer([question("q")])
    assert (answer.text, answer.choice, answer.question_id) == ("blue", 2, "q")
    assert answer.confidence == pytest.approx(2 / 3)
    assert answer.log_probabilities == ()


def test_a_tie_goes_to_the_higher_summed_likelihood_and_without_one_to_the_first() -> None:
    sure, unsure = weighed("q", 0.1, 0.8, 0.1), weighed("q", 0.4, 0.3, 0.3)
    for pair in ([sure, unsure], [unsure, sure]):
        assert majority(question("q"), pair).text == "green"
    assert majority(question("q"), [said("q", "blue"), said("q", "red")]).text == "blue"


def test_who_has_no_answer_abstains_and_none_at_all_is_said() -> None:
    one, none = member("a", said("q", "red")), member("b", said("q", None))
    (answer,) = Vote("v", [none, one, none]).answer([question("q")])
    assert (answer.text, answer.confidence) == ("red", pytest.approx(1 / 3))
    (answer,) = Vote("v", [none, none]).answer([question("q")])
    assert (answer.text, answer.problem) == (None, "none of 2 members answered: lost for words")


def test_the_likelihood_vote_adds_log_probabilities() -> None:
    """Two lukewarm members for red, one sure of green: by count red wins, by likelihood green."""
    members = [member(name, weighed("q", 0.45, 0.40, 0.15)) for name in "ab"] + [member("c", weighed("q", 0.05, 0.9, 0.05))]
    assert Vote("v", members).answer([question("q")])[0].text == "red"
    (answer,) = Vote("v", members, weights=(1, 1, 1)).answer([question("q")])
    product = [0.45 * 0.45 * 0.05, 0.4 * 0.4 * 0.9, 0.15 * 0.15 * 0.05]
    assert answer.text == "green"
    assert [exp(value) for value in answer.log_probabilities] == pytest.approx([one / sum(product) for one in product])
    assert confidence_of(answer) == pytest.approx(product[1] / sum(product))
    assert Vote("v", members, weights=(1, 1, 0)).answer([question("q")])[0].text == "red"


def test_a_likelihood_vote_refuses_members_that_weigh_nothing() -> None:
    vote = Vote("v", [member("a", said("q", "red"))] * 2, weights=(1, 1))
    with pytest.raises(
        CannotDecide, match=r"item 'q': a vote by likelihood .* and a member gives none. Ask questions with choices"
    ):
        vote.answer([question("q")])
    with pytest.raises(CannotDecide, match="item 'q': a vote by likelihood"):
        vote.answer([question("q", ())])
    with pytest.raises(ValueError, match="vote 'v' has 1 members, but 2 weights"):
        Vote("v", [member("a")], weights=(1, 1))


def test_free_answers_are_the_same_by_their_words_or_their_number() -> None:
    texts = ["The Nile.", "the nile", "Amazon"]
    free = question("q", ())
    assert majority(free, [said("q", text) for text in texts]).text == "The Nile."
    numbers = ["it is 1,200", "1200 apples", "12"]
    assert majority(free, [said("q", text) for text in reversed(numbers)], same_for("numeric")).text == "1200 apples"
    assert majority(free, [said("q", text) for text in reversed(numbers)], same_for("exact")).text == "12"


def test_a_temperature_changes_how_sure_a_member_is_and_nothing_else() -> None:
    inner = member("a", weighed("q", 0.9, 0.05, 0.05))
    (answer,) = Calibrated(inner, 3.0).answer([question("q")])
    assert (answer.text, answer.choice) == ("red", 0)
    wanted = 0.9 ** (1 / 3) / (0.9 ** (1 / 3) + 2 * 0.05 ** (1 / 3))
    assert confidence_of(answer) == pytest.approx(wanted)
    found, own = Calibrated(inner, 3.0).footprint(), inner.footprint()
    assert (found.parameters, found.parameters_per_answer, found.weights_bytes) == (100, 100, 400)
    assert list(found.held.values()) == [Held(own.parameters, own.weights_bytes)]


def test_a_footprint_counts_what_is_in_memory_once_and_what_is_used_each_time() -> None:
    a, b = member("a", parameters=100), member("b", parameters=30)
    assert Vote("v", [a, b]).footprint().parameters == 130
    twice = Vote("v", [Calibrated(a, 2.0), a, Vote("w", [a, b])])
    assert (twice.footprint().parameters, twice.footprint().parameters_per_answer) == (130, 330)
    assert twice.footprint().weights_bytes == 520


REPLIES = ("It is the sky.\nAnswer: blue", "Blood is.\nAnswer: A. red", "So.\nAnswer: (C) blue", "I do not know.", "Answer: blue")


def test_one_model_asked_many_times_gives_its_commonest_answer() -> None:
    writer = speaker("m", lambda prompt, seed: REPLIES[seed - 10])
    system = Samples("many", writer, count=5, sampling=Sampling(64, 0.7, seed=10))
    (answer,) = system.answer([question("q")])
    assert (answer.text, answer.choice, answer.confidence) == ("blue", 2, pytest.approx(3 / 5))
    assert [one.text for one in system.samples([question("q")])[0]] == ["blue", "red", "blue", None, "blue"]
    assert system.footprint().parameters == 100
    assert system.footprint().parameters_per_answer == 500
    assert isinstance(writer.writer, ScriptedWriter)
    prompts = {request.prompt for request in writer.writer.requests}
    assert len(prompts) == 1
    assert "Question: What colour has q?\nA. red\nB. green\nC. blue\nReason:" in prompts.pop()


def test_a_model_that_writes_tells_how_far_it_is() -> None:
    said: list[tuple[str, int, int]] = []

    class Watched(Silent):
        def step(self, what: str, done: int, total: int) -> None:
            said.append((what, done, total))

    writer = replace(speaker("m", lambda prompt, seed: "Answer: blue"), progress=Watched())
    Samples("many", writer, count=2, sampling=Sampling(64, 0.7)).answer([question("q"), question("q"), question("r")])
    assert said == [("m writes", done, 4) for done in (1, 2, 3, 4)]


def test_samples_of_numbers_are_compared_as_numbers() -> None:
    replies = ("90 and 10 make 100.\nAnswer: 100", "The answer is 100 apples.", "Answer: 90")
    system = Samples(
        "many", speaker("m", lambda prompt, seed: replies[seed]), count=3, sampling=Sampling(64, 1.0),
        numeric=True, same=same_for("numeric"),
    )  # fmt: skip
    answers = system.answer([question("q", ()), question("r", ())])
    assert [(one.question_id, one.text) for one in answers] == [("q", "100"), ("r", "100")]
