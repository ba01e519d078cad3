"""Replies as real models write them: the reason, and the answer split off, or none where none can be told."""

import pytest

from underdog.answering import Question
from underdog.knowledge.replies import read_reply
from underdog.task.examples import Example
from underdog.task.prompts import letter
from underdog.task.rationales import ForcedRationale, FreeRationale
from underdog.teachers.writing import Reply

PALMS = ("dry palms", "wet palms", "palms covered with oil", "palms covered with lotion")
CHOICE = Example(Question("7", "Which surface?", choices=PALMS), "dry palms", 0)
VERDICT = Example(Question("7", "Does it?", choices=("yes", "no", "maybe")), "yes", 0)
LETTERS = Example(Question("7", "Which vitamin?", choices=("C", "A", "B")), "C", 0)
NUMBER = Example(Question("7", "How many?"), "204")
NAME = Example(Question("7", "Where?"), "New York")


def read(text: str, example: Example = CHOICE) -> tuple[str, str | None] | None:
    found = read_reply(example, Reply(text, "stop", 1, 1, 0.0), "free", "Big")
    assert found is None or isinstance(found, FreeRationale)
    return found and (found.text, found.answer)


@pytest.mark.parametrize(
    ("text", "reason", "answer"),
    [
        ("Rubbing makes heat.\nAnswer: B", "Rubbing makes heat.", 1),
        ("Rubbing makes heat.\nAnswer: b.", "Rubbing makes heat.", 1),
        ("Dry skin rubs.\n\n**Answer:** (a) dry palms", "Dry skin rubs.", 0),
        ("Dry skin rubs.\n**Answer: A. dry palms**", "Dry skin rubs.", 0),
        ("Oil slides.\n\nAnswer:\nC. palms covered with oil", "Oil slides.", 2),
        ("Oil slides.\n\n### Answer\nC. palms covered with oil", "Oil slides.", 2),
        ("Oil slides.\nFinal answer: $\\boxed{C}$", "Oil slides.", 2),
        ("Oil slides.\nThe correct answer is: D) palms covered with lotion.", "Oil slides.", 3),
        ("Oil slides.\nTherefore, the answer is A.", "Oil slides.", 0),
        ("Oil slides.\nAnswer: Option C", "Oil slides.", 2),
        ("Oil slides.\nAnswer: choice (C)", "Oil slides.", 2),
        ("Oil slides.\nAnswer: [D]", "Oil slides.", 3),
        ("Oil slides.\nAnswer: The dry palms.", "Oil slides.", 0),
        ("Oil slides.\nanswer - wet", "Oil slides.\nanswer - wet", None),
        ("Reason: oil slides.\nAnswer: PALMS COVERED WITH OIL", "oil slides.", 2),
        ("Oil slides. So the answer is (b).", "Oil slides.", 1),
        ("The answer is wet palms because they are wet.", "The answer is wet palms because they are wet.", 1),
        ("Oil slides.\nB", "Oil slides.", 1),
        ("Oil slides.\n(b) wet palms", "Oil slides.", 1),
        ("Oil slides.\ndry palms", "Oil slides.", 0),
        ("Answer: B", "", 1),
        ("B", "", 1),
        ("Answer: B. because they are wet", "", 1),
        ("Step 1.\nAnswer: B\nNo: rubbing needs friction.\nAnswer: A", "Step 1.\nAnswer: B\nNo: rubbing needs friction.", 0),
        ("<think>Oil slides.</think>\nAnswer: A", "Oil slides.", 0),
        ("<think>Maybe B. The answer is B.</think>A", "Maybe B. The answer is B.", 0),
        ("Maybe B. The answer is B.</think>\nOil slides.\nA", "Maybe B. The answer is B.\nOil slides.", 0),
        ("<think>Oil slides, so the answer is C", "Oil slides, so the answer is C", None),
        ("The answer is A because they rub.", "The answer is A because they rub.", 0),
        ("So the answer is B, no: the answer is A.", "", 0),
        ("Oil slides.\nAnswer: A\n\nQuestion: What is oil?\nAnswer: D", "Oil slides.", 0),
        ("Oil slides.\nAnswer: A\n\n**Question 2:** What is oil?\nAnswer: D", "Oil slides.", 0),
    ],
)  # fmt: skip
def test_the_answer_is_split_off_the_reason(text: str, reason: str, answer: int | None) -> None:
    assert read(text) == (reason, None if answer is None else PALMS[answer])


@pytest.mark.parametrize(
    "stated",
    ["dry palms or wet palms", "A, B", "A or B", "B. dry palms", "(B) dry palms", "E", "not A", "not wet palms",
     "None of the above", "a place with water", "A place with wet hands", "I am not sure", "", "palms", "unknown"],
)  # fmt: skip
def test_an_answer_that_does_not_fit_one_choice_is_none(stated: str) -> None:
    assert read(f"Oil slides.\nAnswer: {stated}") == ("Oil slides.", None)


@pytest.mark.parametrize(
    "text", ["I do not know.", "A warm hand is nice.", "The answer cannot be told.", "The answer must be warm."]
)
def test_a_reply_without_an_answer_is_a_reason_alone(text: str) -> None:
    assert read(text) == (text, None)


@pytest.mark.parametrize("text", ["", "  \n", "<think></think>"])
def test_a_reply_that_says_nothing_is_nothing(text: str) -> None:
    assert read(text) is None
    assert read_reply(CHOICE, Reply(text, "stop", 1, 1, 0.0), "forced", "Big") is None


def test_choices_that_are_words_or_letters_are_told_apart() -> None:
    assert read("It does.\nAnswer: Yes, it does.", VERDICT) == ("It does.", "yes")
    assert read("It does not.\nAnswer: no", VERDICT) == ("It does not.", "no")
    assert read("Who knows.\nAnswer: yes or no", VERDICT) == ("Who knows.", None)
    assert read("Oranges.\nAnswer: A", LETTERS) == ("Oranges.", "A"), "the choice that is written so, not the first"
    assert read("Oranges.\nAnswer: (A)", LETTERS) == ("Oranges.", "A")


def test_every_letter_of_a_long_list_is_read() -> None:
    labels = tuple(f"intent {number}" for number in range(77))
    many = Example(Question("7", "Which?", choices=labels), labels[0], 0)
    for number in (0, 25, 26, 27, 76):
        assert read(f"x.\nAnswer: {letter(number)}", many) == ("x.", labels[number])
        assert read(f"x.\nAnswer: {letter(number)}. {labels[number]}", many) == ("x.", labels[number])
    assert read(f"x.\nAnswer: {letter(77)}", many) == ("x.", None)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("So 154 + 50 = 204 tomatoes in all.", "204"),
        ("r\nAnswer: $1,204.50", "1204.50"),
        ("r\nAnswer: -5", "-5"),
        ("r\nAnswer: 5 roses", "5"),
        ("r. The answer is 204.", "204"),
        ("r. The answer is 3.5.", "3.5"),
        ("nobody knows", None),
        ("r 7\nAnswer: none", None),
    ],
)
def test_a_number_is_read_where_the_task_asks_for_numbers(text: str, answer: str | None) -> None:
    found = read(text, NUMBER)
    assert found is not None
    assert found[1] == answer


def test_a_free_answer_is_what_stands_behind_answer() -> None:
    assert read("r\nAnswer: New York.", NAME) == ("r", "New York")
    assert read("r\nAnswer: `SELECT 1`", NAME) == ("r", "SELECT 1")
    assert read("He lives there. The answer is Boston.", NAME) == ("He lives there.", "Boston")
    assert read("He lives there.", NAME) == ("He lives there.", None)
    assert read("r\nAnswer: " + "long " * 60, NAME) == ("r", None)


def test_a_reply_towards_the_gold_answer_is_kept_whole_and_marked_as_one_that_saw_it() -> None:
    reply = Reply("Reason: Oil slides.\nAnswer: A\n\nQuestion: What?\nAnswer: D", "length", 1, 1, 0.0)
    assert read_reply(CHOICE, reply, "forced", "Big") == ForcedRationale("7", "Big", "Oil slides.\nAnswer: A")
