"""What a text concludes: by letter, by the choice's own words, the last statement of several, and not where it is denied."""

import pytest

from underdog.knowledge.select.conclusions import concluded, ends_with_conclusion, stated_letter

CHOICES = ("fish", "a hot stove", "hot", "knowledge")


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("So, the answer is (b).", 1),
        ("So, the correct answer is c.", 2),
        ("Hence, the correct option is (D).", 3),
        ("Therefore, the answer is 'a'.", 0),
        ("The correct answer is option (d).", 3),
        ("So, option (a) is correct.", 0),
        ("So the option a is correct.", 0),
        ("(c) is the right answer because it burns.", 2),
        ("Option (b) is the only one left.", 1),
        ("Answer: (c)", 2),
        ("Answer:\nd", 3),
        ("Yes, the answer is definitely (a).", 0),
        ("The answer to this question must be (b).", 1),
        ("So, we have to choose (d) as the correct option.", 3),
        ("The answer is (a). No, wait: the answer is (b).", 1),
        ("Boats do not fly, so the answer is b.", 1),
        ("So, the answer is fish.", 0),
        ("The answer is a hot stove, which burns.", 1),
        ("The answer must be hot.", 2),
        ("The answer is: the knowledge.", 3),
        ("The answer is 'knowledge'.", 3),
        ("The answer is (a). So, the answer is hot.", 2),
    ],
)
def test_a_conclusion_is_read(text: str, choice: int) -> None:
    assert concluded(text, CHOICES) == choice


@pytest.mark.parametrize(
    "text",
    [
        "A compass is a tool.",
        "The answer is a compass.",
        "The answer is not (b).",
        "Option (a) is incorrect.",
        "Option (a) says that fish swim.",
        "If the answer is (b), it burns.",
        "So we cannot choose (b).",
        "The answer is (a) or (b).",
        "The answer is (e).",
        "Answer:\n(a) fish\n(b) a hot stove\n(c) hot",
        "Each option:\n\nOption (a): fish swim.",
        "The answer is hotter.",
        "He can answer. He is right.",
        "",
    ],
)
def test_where_none_is_stated_none_is_read(text: str) -> None:
    assert concluded(text, CHOICES) is None


def test_a_letter_is_told_from_words() -> None:
    assert stated_letter("The answer is (a). So, the answer is hot.", 4) == 0
    assert stated_letter("The answer is hot.", 4) is None


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("It burns.\nSo, the answer is (b)", True),
        ("It burns.\nSo, the correct option is (b) a hot stove", True),
        ("Thus, the answer is fish", True),
        ("So, the answer is (b) a hot", False),
        ("So, the answer is (b", False),
        ("The answer is (b). And the", False),
        ("The answer is (b)\nAnd the", False),
        ("It burns", False),
    ],
)
def test_a_conclusion_needs_no_final_dot(text: str, whole: bool) -> None:
    assert ends_with_conclusion(text, CHOICES) is whole
