"""From rows to examples: what is read, and what is refused with which words."""

import json
from typing import Any

import pytest

from underdog.task.read import read_examples
from underdog.task.splits import split


def row(n: int = 1, **changes: Any) -> dict[str, Any]:
    return {"id": f"i{n}", "question": f"Question {n}?", "answer": "neutral"} | changes


def test_an_example_keeps_its_row_and_knows_its_gold_choice(folder) -> None:
    folder.rows([row(answer=" positive ", source="web")])
    (example,) = read_examples(folder.task(), "train")
    assert (example.id, example.question.prompt, example.answer, example.gold) == ("i1", "Question 1?", "positive", 2)
    assert example.question.choices == ("negative", "neutral", "positive")
    assert example.row["source"] == "web"


def test_columns_may_have_other_names_and_rows_without_ids_are_numbered(folder) -> None:
    rows = [{"text": f"t{n}", "label": "neutral"} for n in range(3)]
    folder.rows(rows)
    examples = read_examples(folder.task(fields={"question": "text", "answer": "label"}), "train")
    assert [example.id for example in examples] == ["train-0", "train-1", "train-2"]
    assert [example.question.prompt for example in examples] == ["t0", "t1", "t2"]


@pytest.mark.parametrize(
    ("choices", "answer", "gold"),
    [
        (["red", "blue"], 1, 1),
        (["red", "blue"], "blue", 1),
        (["red", "blue"], "B", 1),
        (["red", "blue"], "0", 0),
        (["2", "0", "1"], "1", 2),
        (["2", "0", "1"], 1, 1),
        ([10, 20], "20", 1),
        ({"A": "red", "B": "blue"}, "B", 1),
        ({"1": "red", "2": "blue"}, 2, 1),
        ({"A": "red", "B": "blue"}, "red", 0),
        ({"label": ["A", "B"], "text": ["red", "blue"]}, "B", 1),
        ('["red", "blue"]', "blue", 1),
        ('{"A": "red", "B": "blue"}', "A", 0),
    ],
)
def test_choices_of_an_item_and_its_gold_may_be_written_in_several_ways(folder, choices: Any, answer: Any, gold: int) -> None:
    folder.rows([row(choices=choices, answer=answer)])
    (example,) = read_examples(folder.task(choices="choices"), "train")
    assert example.gold == gold
    assert example.answer == example.question.choices[gold]


def test_choices_may_stand_in_a_csv_as_a_json_list(folder) -> None:
    folder.write("train.csv", 'question,choices,answer\nWhich?,"[""red"", ""blue""]",blue\nWhat?,"[""a"", ""b""]",0\n')
    examples = read_examples(folder.task(choices="choices", data="train.csv"), "train")
    assert [(example.gold, example.answer) for example in examples] == [(1, "blue"), (0, "a")]


@pytest.mark.parametrize(
    ("labels", "answer", "gold"),
    [(["no", "yes"], 1, 1), (["1", "0"], 1, 0), (["false", "true"], True, 1), (["0.5", "1"], 0.5, 0)],
)
def test_fixed_labels_are_compared_as_text_before_a_number_is_an_index(folder, labels: list[str], answer: Any, gold: int) -> None:
    folder.rows([row(answer=answer)])
    (example,) = read_examples(folder.task(choices=labels), "train")
    assert example.gold == gold


def test_free_answers_are_text_whatever_they_were(folder) -> None:
    folder.rows([row(1, answer=42), row(2, answer=" two words "), row(3, answer=2.5)])
    examples = read_examples(folder.task(kind="generate", choices=None, metric="exact"), "train")
    assert [example.answer for example in examples] == ["42", "two words", "2.5"]
    assert {example.gold for example in examples} == {None}


FIXED = "train.jsonl:2: "


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (row(2, answer="postive"), "label 'postive' is not one of the task's labels (negative, neutral, positive). "
         "Did you mean 'positive'? Fix the line, or add the label to the task file."),
        (row(2, answer="NEUTRAL"), "label 'NEUTRAL' is not one of the task's labels (negative, neutral, "
         "positive). Did you mean 'neutral'?"),
        (row(2, answer=3), "answer index 3 is out of range: the task has 3 labels, numbered from 0 to 2. "
         "Indices start at 0: if yours "
         "start at 1, take one off each."),
        (row(2, answer=-1), "answer index -1 is out of range: the task has 3 labels, numbered from 0 to 2. Fix the line."),
        (row(2, answer=""), "field 'answer' is empty. Every item needs its gold answer"),
        (row(2, answer=None), "field 'answer' is null. Give it a value"),
        (row(2, question=" \t"), "field 'question' is empty. Every item needs a question"),
        ({"id": "i2", "questoin": "x", "answer": "neutral"}, "field 'question' is missing. Did you mean 'questoin'? "
         "The row has: id, questoin, answer. Add it to the row."),
        ({"id": "i2", "question": "x", "anser": "neutral"}, "field 'answer' is missing. Did you mean 'anser'?"),
        (row(1), "id 'i1' stands already in line 1. Ids must differ; change one."),
    ],
)  # fmt: skip
def test_a_row_that_is_no_example_is_refused_with_line_and_fix(folder, bad: dict[str, Any], message: str) -> None:
    folder.rows([row(1), bad])
    assert FIXED + message in folder.problem()


@pytest.mark.parametrize(
    ("choices", "answer", "message"),
    [
        (
            ["red", "blue", "red"],
            1,
            "choices 0 and 2 are equal: 'red'. No answer could tell them apart; change one, remove the row, or leave "
            "such rows out: `data: {equal_choices: leave_out}`.",
        ),
        (["red", "blue"], 2, "answer index 2 is out of range: the item has 2 choices, numbered from 0 to 1. Indices start at 0"),
        (["red", "blue"], 7, "answer index 7 is out of range: the item has 2 choices, numbered from 0 to 1. Fix the line."),
        (["red", "blue"], "bleu", "answer 'bleu' is none of the item's choices (red, blue). Did you mean 'blue'?"),
        (["red", "blue"], "C", "answer 'C' is none of the item's choices (red, blue)."),
        (["red"], 0, "the item has 1 choice. It needs at least two."),
        ([], 0, "the item has 0 choices. It needs at least two."),
        (["red", " "], 0, "choice 1 is empty. Every choice needs a text."),
        ("red or blue", 0, "choices 'red or blue' are no list. Write a JSON list, such as"),
        (5, 0, "choices are '5'. Allowed: a list of texts, or a mapping of names to texts."),
        ([["a"], ["b"]], 0, "choices are \"[['a'], ['b']]\". Allowed: a list of texts"),
        ({"label": ["A"], "text": ["red", "blue"]}, "A", "the item has 1 names for 2 choices. Each choice needs one."),
        (None, 0, "field 'choices' is null."),
    ],
)
def test_broken_choices_of_an_item_are_refused(folder, choices: Any, answer: Any, message: str) -> None:
    folder.rows([row(1, choices=["a", "b"], answer=0), row(2, choices=choices, answer=answer)])
    assert FIXED + message in folder.problem(choices="choices")


def test_only_the_first_labels_of_many_are_listed(folder) -> None:
    folder.rows([row(answer="label 7x")])
    told = folder.problem(choices=[f"label {n}" for n in range(77)])
    assert "label 10, label 11, and 65 more). Did you mean 'label 7'?" in told


def test_errors_in_test_and_validation_are_found_too(folder) -> None:
    folder.rows([row(1), row(2, answer="happy")], "test.jsonl")
    assert folder.problem().startswith("test.jsonl:2: label 'happy' is not one of")
    folder.rows([row(1), {"id": "i2"}], "valid.jsonl")
    assert folder.problem().startswith("valid.jsonl:2: field 'question' is missing.")


def test_a_broken_file_is_told_through_the_task(folder) -> None:
    folder.write("train.jsonl", json.dumps(row()) + '\n{"id": "i2", "question": }\n')
    assert folder.problem().startswith("train.jsonl:2: column 26: broken JSON (Expecting value)")
    folder.write("train.jsonl", "")
    assert folder.problem().startswith("train.jsonl: the file is empty")


def test_reading_nine_thousand_rows_is_quick(folder) -> None:
    import time

    folder.rows([row(n, answer="neutral" if n % 2 else "positive") for n in range(9_000)])
    started = time.perf_counter()
    splits = split(folder.task())
    assert len(splits.train) == 9_000
    assert time.perf_counter() - started < 2.0
