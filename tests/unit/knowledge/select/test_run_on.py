"""A text ends where its teacher goes on to a question of its own."""

import pytest

from underdog.knowledge.select.run_on import before_new_question

REASON = "The sun is hot.\nSo, the answer is (b)."


@pytest.mark.parametrize(
    "more",
    [
        "\nQuestion:\nWhich of the following is cold?",
        "\n\n### Question 14\nQuestion:\nwhat",
        "\n#  **Question:**\nI am",
        "\nQ. The main function of the liver is",
        "\nQ.11: If a man falls",
        "\n### Q15\n\nQuestion",
        "\nWhich of the following is a mammal?",
        " Which of the following is a mammal?",
        "\nOptions:\n(a) hot\n(b) cold",
        "\n\nComment: I think it is C.",
        "\n#\nQuestion",
        "\n# 17.\nThe Snake",
        "\n\n### 9. What is it",
        "\n\\begin{code}\nimport java",
        "\n\n#",
        "\nQues",
        "\n\\beg",
        "\n\nAnswer:\nb\nQuestion: next",
        "\nAnswer: (b) yes\nAnswer: (c) no",
    ],
)
def test_what_follows_is_cut(more: str) -> None:
    left = before_new_question(REASON + more)
    kept_answer = more.partition("\nQuestion")[0].partition("\nAnswer: (c)")[0].strip() if "Answer" in more else ""
    assert left == (REASON + "\n" * (2 if more.startswith("\n\nA") else 1) + kept_answer if kept_answer else REASON)


@pytest.mark.parametrize(
    "text",
    [
        REASON,
        "Why?\nBecause it is hot.\nWhat does it do? It shines.",
        "The question is about heat. There are two options: hot and cold.",
        "#1 is hot and # 2 is not.",
        "The options are few.\nOptions (a) and (b) are wrong.",
        "Quick heat is\nquality heat.",
        "It is hot.\nExplanation:\nThe sun gives heat.",
        "Answer: hot, as the sun is.",
    ],
)
def test_an_explanation_stays_whole(text: str) -> None:
    assert before_new_question(text) == text


def test_the_headings_of_an_explanation_are_taken_off() -> None:
    assert before_new_question("### Explanation:\nThe sun is hot.") == "The sun is hot."
    assert before_new_question("Rationale: The sun is hot.") == "The sun is hot."


def test_a_text_that_begins_with_a_question_leaves_nothing() -> None:
    assert before_new_question("Question:\nWhat is hot?\nAnswer: the sun") == ""
