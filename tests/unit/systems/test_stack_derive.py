"""Texts of inner steps made of reasons: the rules that docs/stack.md states."""

import pytest

from underdog.answering import Question
from underdog.systems.stack.derive import derive, keywords, without_conclusion
from underdog.task.examples import Example
from underdog.task.rationales import ForcedRationale, FreeRationale

CHOICES = ("park", "bench", "old house")


def item(answer: str = "bench", choices: tuple[str, ...] = CHOICES, id: str = "i") -> Example:
    return Example(Question(id, "Where do you sit?", choices=choices), answer, choices.index(answer) if choices else None)


@pytest.mark.parametrize(
    ("reason", "left"),
    [
        ("It must be a place to sit. Of the choices, only a bench is for that.", "It must be a place to sit."),
        ("It must be a place to sit. So the answer is (b).", "It must be a place to sit."),
        ("People sit outside. Nobody stands.", "People sit outside. Nobody stands."),
        ("The answer is bench.", ""),
        ("Dr. Who sat there. It was an old house", "Dr. Who sat there."),
        ("no end at all", "no end at all"),
    ],
)
def test_the_last_sentence_goes_where_it_names_a_choice(reason: str, left: str) -> None:
    assert without_conclusion(reason, item()) == left


@pytest.mark.parametrize(
    ("reason", "left"),
    [
        ("He scored 84 points in 2 rounds. 84 / 2 = 42.", "He scored 84 points in 2 rounds. 84 / 2 ="),
        ("So she paid $1,204.50.", "So she paid"),
        ("He has some apples.", "He has some apples."),
    ],
)
def test_numbers_are_left_up_to_the_result(reason: str, left: str) -> None:
    assert without_conclusion(reason, item("42", ())) == left


def test_of_free_answers_the_last_sentence_goes_where_it_holds_the_answer() -> None:
    assert without_conclusion("It flows north. It is the Nile!", item("the Nile", ())) == "It flows north."
    assert without_conclusion("It flows north. It is long.", item("the Nile", ())) == "It flows north. It is long."


def test_keywords_are_the_words_that_tell_texts_apart_in_their_order() -> None:
    texts = {
        "a": "The answer must be a wooden bench, a bench in parks; wooden seats rot quickly outside",
        "b": "The answer must be a river",
        "c": "The answer must be the river bank",
    }
    found = keywords(texts)
    assert found == {"a": "wooden, bench, parks, seats, rot", "b": "river", "c": "river, bank"}
    assert keywords({"a": "one text alone"}) == {"a": ""}


def test_what_is_made_of_a_reason_is_of_its_type() -> None:
    examples = [item(id="1"), item("park", id="2"), item(id="3")]
    reasons = {
        "1": FreeRationale("1", "PaLM", "Sitting needs seats. It is a bench.", "bench"),
        "2": ForcedRationale("2", "PaLM", "Trees grow there. It is a park."),
        "3": FreeRationale("3", "PaLM", "It is a bench."),
    }
    texts = derive(reasons, examples, ["keywords", "intermediate"])
    assert texts["intermediate"]["1"].as_input() == "Sitting needs seats."
    assert texts["keywords"]["1"].as_input() == "sitting, needs, seats"
    with pytest.raises(TypeError, match="never be part of a model's input"):
        texts["keywords"]["2"].as_input()
    assert "3" not in texts["intermediate"]
    assert "3" not in texts["keywords"]
    assert list(derive(reasons, examples, ["intermediate"])) == ["intermediate"]
