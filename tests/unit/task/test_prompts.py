import pytest

from underdog.answering import Question
from underdog.errors import TaskError
from underdog.task.examples import Example
from underdog.task.prompts import Template, letter, shots


@pytest.mark.parametrize(
    ("text", "prompt", "cue"),
    [
        ("{question}\nIntent:", "Why?", "\nIntent:"),
        ("{question}", "Why?", "\nAnswer:"),
        ("{question}\n\n", "Why?", "\nAnswer:"),
        ("{question}\nAnswer: \n", "Why?", "\nAnswer:"),
        ("Read.\n{context}\nQ: {question} A:", "Read.\nA text.\nQ: Why?", " A:"),
        ("{{literal}} {question} {{x}}:", "{literal} Why?", " {x}:"),
        ("{question}\n{choices}\nWhich?", "Why?\nA. one\nB. two", "\nWhich?"),
        ("{n}: {question}", "3: Why?", "\nAnswer:"),
        ("{a.b} {question}", "dot Why?", "\nAnswer:"),
    ],
)
def test_a_prompt_ends_with_its_last_field_and_the_rest_is_the_cue(text: str, prompt: str, cue: str) -> None:
    row = {"text": " Why?\n", "context": "A text.", "n": 3, "a.b": "dot", "question": "another column"}
    question = Template(text, "text").render(row, ("one", "two"), "q1")
    assert question == Question(id="q1", prompt=prompt, cue=cue, choices=("one", "two"))


def test_a_template_names_the_columns_that_it_shows() -> None:
    assert Template("{context} {question} {context} {choices}", "text").names == ("context", "text", "choices")


def test_braces_in_the_data_are_text() -> None:
    assert Template("{question}").render({"question": "{question} {0} {{"}).prompt == "{question} {0} {{"


@pytest.mark.parametrize("text", ["{}", "{0!r}", "{question:>3}", "{question!s}"])
def test_braces_hold_a_column_and_nothing_else(text: str) -> None:
    with pytest.raises(TaskError, match="In braces stands the name of a column alone"):
        Template(text)


def test_no_attribute_or_item_of_a_value_can_be_reached() -> None:
    with pytest.raises(TaskError, match=r"field 'question\.__class__' is missing"):
        Template("{question.__class__}").render({"question": "x"})


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"qestion": "x", "id": 1}, "field 'question' is missing. Did you mean 'qestion'? The row has: qestion, id."),
        ({"question": None}, "field 'question' is null."),
        ({"question": "\ud83d"}, "field 'question' holds half of a surrogate pair"),
    ],
)
def test_a_row_that_cannot_be_shown_is_refused(row: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError) as raised:
        Template("{question}").render(row)
    assert message in str(raised.value)


def test_letters_go_on_after_z() -> None:
    assert [letter(index) for index in (0, 1, 25, 26, 27, 51, 52, 701, 702)] == [
        "A",
        "B",
        "Z",
        "AA",
        "AB",
        "AZ",
        "BA",
        "ZZ",
        "AAA",
    ]


def examples(count: int) -> list[Example]:
    return [Example(Question(str(n), f"Question {n}?"), f"answer {n}") for n in range(count)]


def test_shots_are_drawn_by_seed_and_each_is_a_whole_worked_example() -> None:
    train = examples(20)
    assert shots(train, 0, 0) == ""
    text = shots(train, 5, 0)
    assert text == shots(train, 5, 0)
    assert text != shots(train, 5, 1)
    assert text.endswith("\n\n")
    worked = text.removesuffix("\n\n").split("\n\n")
    assert len(set(worked)) == 5
    assert set(worked) <= {f"Question {n}?\nAnswer: answer {n}" for n in range(20)}


def test_more_shots_than_examples_are_refused() -> None:
    with pytest.raises(TaskError, match="3 shots were asked for, but there are only 2 training examples"):
        shots(examples(2), 3, 0)


@pytest.mark.parametrize(
    ("words", "shown"),
    [(5, "one two three  four\nfive"), (4, "one two … four\nfive"), (3, "one two … five"), (1, "one …")],
)
def test_of_a_long_column_beginning_and_end_are_shown(words: int, shown: str) -> None:
    template = Template("{context}\n{question}\nAnswer:", shorten={"context": words})
    question = template.render({"context": "one two three  four\nfive", "question": "What is left out of the middle?"})
    assert question.prompt == f"{shown}\nWhat is left out of the middle?"
