"""Beginnings that are no part of any sentence go with the sentence bent to them; ordinary texts stay as they are."""

import pytest

from underdog.knowledge.select.glitch import Glitches, learn, without_glitches

QUESTION = "What does the sun give us? light dark"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("sierp\nThe sun is hot.", "The sun is hot."),
        ("sierpana is a device. The sun is hot.", "The sun is hot."),
        ("Hinweis:\nLasst uns Schritt für Schritt denken.\nThe sun is hot.", "The sun is hot."),
        ("Unterscheidung between sun and moon matters. The sun is hot.", "The sun is hot."),
        ("nobody lives there. The sun is hot.", "The sun is hot."),
        ("февруари 19, 2021 at 7:55 pm\nThe sun is hot.", "The sun is hot."),
        ("ЪThe sun is hot.", "The sun is hot."),
        ("➖\nThe sun is hot.", "The sun is hot."),
        ("();`\n\nThe sun is hot.", "The sun is hot."),
        (".\nThe sun is hot.", "The sun is hot."),
        ("\ufffdThe sun is hot.", "The sun is hot."),
        ("t\nThe sun is hot.", "The sun is hot."),
        ("nan", ""),
        ("sierp", ""),
        ("The sun is hot. Hinweis 2: It is.", ""),
        ("The sun is округу hot.", ""),
        ("The sun is hot\x90.", ""),
    ],
)
def test_a_bad_beginning_is_cut_and_a_text_that_is_bad_within_goes(text: str, left: str) -> None:
    assert without_glitches(text, QUESTION, Glitches()) == left


@pytest.mark.parametrize(
    "text",
    [
        "The sun is hot.",
        "Nobody lives there. Everybody knows.",
        "It is said that nobody lives there, and hopefully not.",
        "(a) The sun is hot.",
        "1. The sun is hot.",
        "• The sun is hot.\n• It shines.",
        '"Hot" is what it is.',
        "β-carotene is 5 µm long, Jalapeño and café are Latin: 25 °C.",
        "\\[ x = 1 \\] is true.",
        "-5 degrees is cold.",
    ],
)
def test_ordinary_texts_stay(text: str) -> None:
    assert without_glitches(text, QUESTION, Glitches()) == text


def test_letters_that_the_item_uses_itself_are_no_glitch() -> None:
    text = "сайт means site."
    assert without_glitches(text, "What does the word сайт mean?", Glitches()) == text
    assert without_glitches(text, "What does the word mean?", Glitches()) == ""


def test_where_questions_are_german_german_words_are_none() -> None:
    questions = ["Was ist das?", "Wo liegt die Stadt?"]
    text = "Hinweis: Die Stadt liegt am Rhein."
    assert without_glitches(text, questions[1], Glitches.of([text], questions)) == text
    assert without_glitches(text, "x", Glitches.of([text], ["What is the city on the river?"])) == ""


def texts_that_begin_with(word: str, times: int, others: int = 600) -> list[str]:
    return [f"{word} is odd number {n}." for n in range(times)] + [f"The number {n} is ordinary." for n in range(others)]


def test_words_that_only_ever_begin_texts_are_learnt() -> None:
    texts = texts_that_begin_with("Zweifel", 5)
    assert learn(texts, ["What is the number?"]) == {"Zweifel"}
    glitches = Glitches.of(texts, ["What is the number?"])
    assert without_glitches("Zweifel is odd. It is 5.", "What?", glitches) == "It is 5."
    assert without_glitches("It is Zweifel.", "What?", glitches) == ""


@pytest.mark.parametrize(
    ("texts", "questions"),
    [
        (texts_that_begin_with("Zweifel", 4), ["What is it?"]),
        (texts_that_begin_with("Zweifel", 5, others=400), ["What is it?"]),
        (texts_that_begin_with("Kittens", 9), ["What does a kitten do?"]),
        ([*texts_that_begin_with("Because", 9), "It is so because I say so."], ["What is it?"]),
        (texts_that_begin_with("Purée", 9), ["How do you make puree?"]),
    ],
    ids=["too seldom", "too few texts", "a question has the word", "another text has it", "the accent apart"],
)
def test_nothing_is_learnt_from_too_little(texts: list[str], questions: list[str]) -> None:
    assert learn(texts, questions) == frozenset()
