"""The task file: what loads, and what a user is told about one that does not."""

import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from pathlib import Path
from typing import Any

import pytest

from underdog.errors import DataFileMissing, TaskError
from underdog.settings import Settings
from underdog.task.spec import TaskSpec
from underdog.task.task import Task

GOOD = """\
name: moods
kind: choice
data: {train: train.jsonl, valid: valid.jsonl, test: test.jsonl}
choices: [negative, neutral, positive]
prompt: "{question}\\nMood:"
metric: accuracy
teachers:
  - {name: big, model: some-model, shots: [0, 5]}
  - name: flan
    rationales: why.jsonl
reference: big
students:
  from: some-model
  sizes: [4M, 8M]
recipes:
  - labels
  - kind: rationales
    teachers: [flan]
goal:
  confidence: 0.95
"""


@pytest.fixture
def text_problem(folder) -> Callable[..., str]:
    """Load the good task with one text replaced by another, and return what the user is told."""
    folder.rows([{"id": "train-0", "rationale": "because"}], "why.jsonl")

    def problem(old: str, new: str) -> str:
        assert old in GOOD
        path = folder.write("task.yaml", GOOD.replace(old, new, 1))
        with pytest.raises(TaskError) as raised:
            Task.load(path, folder.settings)
        return str(raised.value).replace(f"{folder.path}/", "")

    return problem


def test_a_good_task_file_loads_with_everything_resolved(folder) -> None:
    folder.rows([{"id": "train-0", "rationale": "because"}], "why.jsonl")
    task = Task.load(folder.write("task.yaml", GOOD), folder.settings)
    assert task.labels == ("negative", "neutral", "positive")
    assert task.choices_column is None
    assert task.template.cue == "\nMood:"
    assert {part: path.name for part, path in task.files.items()} == {
        "train": "train.jsonl",
        "valid": "valid.jsonl",
        "test": "test.jsonl",
    }
    assert task.rationales == {"flan": folder.path / "why.jsonl"}
    assert [recipe.kind for recipe in task.spec.recipes] == ["labels", "rationales"]
    assert task.folder == folder.path
    with pytest.raises(FrozenInstanceError):
        task.labels = ()  # type: ignore[misc]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("confidence: 0.95", "confidnce: 0.95", "task.yaml:20: field 'goal.confidnce' is not known. Did you mean 'confidence'? "
         "Allowed: beat_by, within, at_least, confidence, seeds, smallest_by, every_recipe, finalists."),
        ("goal:", "contrasts: [[rationales, lables]]\ngoal:", "task.yaml:19: contrasts[0] names 'lables', which is no recipe and "
         "no system. Did you mean 'labels'? Recipes: labels, rationales."),
        ("goal:", "contrasts: [[rationales, labels]]\ngoal:", "task.yaml:19: contrasts compare recipes on the test set, which "
         "needs `every_recipe: true` in goal."),
        ("  - labels\n", "  - {kind: labels, name: a}\n  - {kind: labels, name: a}\n",
         "2 recipes are called 'a'. Give each its own name."),
        ("  - labels\n", "  - {kind: labels, answers_from: flan}\n",
         "task.yaml:16: answers_from names 'flan', which is no teacher that "
         "answers for itself: recorded with `answers: <column>`, or asked in mode free. Such teachers: none."),
        ("confidence: 0.95", "confidence: 1.5", "task.yaml:20: field 'goal.confidence' is 1.5; it must be less than 1."),
        ("confidence: 0.95", "confidence: high", "task.yaml:20: field 'goal.confidence' is 'high'; it must be a number."),
        ("  from: some-model\n", "", "task.yaml:12: field 'students.from' is missing. Add it: Model that is "
         "used whole or shrunk."),
        ("  from:", "  form:", "task.yaml:13: field 'students.form' is not known. Did you mean 'from'? Allowed: from, sizes."),
        ("metric: accuracy", "metric: acuracy", "task.yaml:6: field 'metric' is 'acuracy'. Did you mean 'accuracy'? "
         "Allowed: accuracy, macro_f1, exact, f1, numeric."),
        ("metric: accuracy", "metric: f1", "task.yaml:6: metric 'f1' does not fit kind 'choice'. Allowed: accuracy, macro_f1."),
        ("kind: choice", "kind: choise", "task.yaml:2: field 'kind' is 'choise'. Did you mean 'choice'? "
         "Allowed: choice, generate."),
        ("kind: choice", "kind: choice\nkind: generate", "task.yaml:3: field 'kind' is written twice (first in line 2)"),
        ("  - labels", "  - lables", "task.yaml:16: field 'recipes[0]' is 'lables'. Did you mean 'labels'? "
         "Allowed: labels, rationales, logits."),
        ("teachers: [flan]", "teachers: [flam]", "task.yaml:18: recipe 'rationales' names 'flam', which is no "
         "teacher with rationales."
         " Did you mean 'flan'? Such teachers: flan."),
        ("teachers: [flan]", "techers: [flan]", "task.yaml:18: field 'recipes[1].techers' is not known. Did you mean 'teachers'? "
         "Allowed: name, answer_loss, answers_from, tuning, kind, answer_weight, weight, teachers, "),
        ("model: some-model, shots", "model: some-model, shot", "task.yaml:8: field 'teachers[0].shot' is not "
         "known. Did you mean 'shots'? "
         "Allowed: kind, name, model, shots, ask, weight."),
        ("shots: [0, 5]", "shots: -1", "task.yaml:8: field 'teachers[0].shots' is -1; it must be 0 or more or a list."),
        ("shots: [0, 5]", "shots: [0, many]", "task.yaml:8: field 'teachers[0].shots[1]' is 'many'; it must be a whole number."),
        ("{name: big,", "{kind: locl, name: big,", "task.yaml:8: field 'teachers[0].kind' is 'locl'. Did you mean 'local'? "
         "Allowed: local, remote, trained, recorded, published."),
        ("{name: big, model: some-model, shots: [0, 5]}", "big", "task.yaml:8: field 'teachers[0]' is 'big'; "
         "it must be fields and"),
        ("name: flan", "name: big", "task.yaml:9: two teachers are called 'big'. Give each its own name."),
        ("    rationales: why", "    rationales: whi", "task.yaml:10: no file whi.jsonl. Did you mean 'why.jsonl'?"),
        ("    rationales: why.jsonl", "    rationales: why.jsonl\n    field: text", "why.jsonl:1: field 'text' is missing. "
         "A rationale file has 'id' and 'text' in each row; found: id, rationale."),
        ("reference: big", "reference: bgi", "task.yaml:11: reference 'bgi' is none of the teachers. Did you mean 'big'? "
         "Teachers: big, flan."),
        ("reference: big", "reference: flan", "task.yaml:11: reference 'flan' is a teacher known only by its "
         "rationales: nobody can "
         "compare with it. Add `published: {quality, items, source}` to it"),
        ("reference: big", "reference: [big, flam]", "task.yaml:11: reference 'flam' is none of the teachers. "
         "Did you mean 'flan'?"),
        ("reference: big", "reference: []", "task.yaml:11: reference names no teacher. Teachers: big, flan."),
        ("reference: big", "reference: 7", "task.yaml:11: field 'reference' is 7; it must be text or a list. "
         "YAML does not read it as text"),
        ("sizes: [4M, 8M]", "sizes: [4M, 8Q]", "task.yaml:14: students.sizes[1]: '8Q' is not a size."),
        ("sizes: [4M, 8M]", "sizes: []", "task.yaml:14: field 'students.sizes' is []; it must be a list of 1 or more."),
        ("name: moods", "name: my moods/", "task.yaml:1: field 'name' is 'my moods/'; it must be letters, digits, dots, dashes"),
        ("choices: [negative, neutral, positive]\n", "", "task.yaml:2: a task of kind 'choice' needs `choices`: the labels, "),
        ("[negative, neutral, positive]", "[no, yes]", "task.yaml:4: field 'choices[0]' is false; it must be "
         "text. YAML does not read it "
         "as text: put it in quotes."),
        ("[negative, neutral, positive]", "[low, high, low]", "task.yaml:4: label 'low' stands 2 times in choices. Keep one."),
        ("[negative, neutral, positive]", "[low]", "task.yaml:4: choices has 1 label. A choice needs at least two."),
        ("[negative, neutral, positive]", "option", "task.yaml:4: choices names the column 'option', which train.jsonl has not. "
         "Columns: id, question, answer. Or write the labels as a list"),
        ("[negative, neutral, positive]", "moods.json", "task.yaml:4: no file moods.json."),
        ("{question}", "{qestion}", "task.yaml:5: prompt names the column 'qestion', which train.jsonl has "
         "not. Did you mean 'question'? "
         "Columns: id, question, answer."),
        ("{question}", "{answer}", "task.yaml:5: the prompt shows 'answer', the answer's column. Take it out"),
        ("{question}", "{question", "task.yaml:5: the prompt '{question\\nMood:' is broken: unmatched '{'"),
        ("{question}", "{question!r}", "task.yaml:5: the prompt holds '{question!r}'. In braces stands the "
         "name of a column alone"),
        ("{question}", "Hello", "task.yaml:5: the prompt 'Hello\\nMood:' shows nothing of the item."),
        ("train: train.jsonl", "train: trian.jsonl", "task.yaml:3: no file trian.jsonl. Did you mean 'train.jsonl'?"),
        ("train: train.jsonl, ", "", "task.yaml:3: field 'data.train' is missing. Add it: JSONL, CSV or "
         "Parquet, gzipped or not."),
        ("goal:\n", "goal:\n  within: 0.01\n  beat_by: 0.1\n", "task.yaml:20: goal has both 'beat_by' and 'within'."),
        ("reference: big", "reference: big\nfields: {question: text}", "task.yaml:12: fields.question names the column 'text', "
         "which train.jsonl has not. Columns: id, question, answer."),
        ("reference: big", "reference: big\nfields: {id: nr}", "task.yaml:12: fields.id names the column 'nr', which"),
        ("reference: big", "reference: big\n tuning: full", "task.yaml:12: column 8: not valid YAML: "),
        ("reference: big", "reference: @big", "task.yaml:11: column 12: not valid YAML: while scanning for the next token, found "
         "character '@' that cannot start any token."),
        ("    teachers: [flan]", "    teachers: [flan]\n  - {answer_loss: text}", "task.yaml:19: field "
         "'recipes[2].kind' is missing. "
         "Add it; allowed: labels, rationales, logits."),
        ("name: moods", "name: moods\n5: 6", "task.yaml:2: field '5' is not known. Allowed: name, kind, data, "),
        ("name: moods", "name: 2024-01-01", "task.yaml:1: field 'name' is 2024-01-01; it must be text. YAML "
         "does not read it as text"),
        ("students:\n  from: some-model\n  sizes: [4M, 8M]", "students: tiny", "task.yaml:12: field "
         "'students' is 'tiny'; it must be fields"),
        ("students:\n  from: some-model\n  sizes: [4M, 8M]", "students:", "task.yaml:12: field 'students' is "
         "empty; it must be fields"),
        ("name: moods", "name: !!python/object:os.system x", "task.yaml:1: column 7: not valid YAML: could "
         "not determine a constructor"),
        ("name: moods", "name: &self {again: *self}", "task.yaml:1: field 'name' is {"),
        (GOOD, "", "task.yaml:1: a task file holds fields such as `name: my-task`"),
        (GOOD, "- a\n- b\n", "task.yaml:1: a task file holds fields such as `name: my-task`"),
    ],
)  # fmt: skip
def test_a_broken_task_file_is_refused_with_line_field_and_fix(text_problem, old: str, new: str, message: str) -> None:
    assert message in text_problem(old, new)


def test_all_wrong_fields_are_told_at_once(text_problem) -> None:
    told = text_problem("metric: accuracy", "metrik: accuracy\nseed: x\nsorcery: 1").splitlines()
    assert sorted(line.split(":")[1] for line in told) == ["1", "6", "7", "8"]


def test_a_wrong_item_of_a_list_is_told_once(text_problem) -> None:
    assert text_problem("goal:", "tuning: [ful]\ngoal:").splitlines() == [
        "task.yaml:19: field 'tuning[0]' is 'ful'. Did you mean 'full'? Allowed: full, lora."
    ]


def test_a_recipe_with_rationales_needs_a_recorded_teacher(folder) -> None:
    assert "recipe 'rationales' needs a teacher with rationales. Add one" in folder.problem(recipes=["rationales"])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"choices": ["a", "b"]}, "a task of kind 'generate' has no choices. Remove `choices`, or write `kind: choice`."),
        ({"metric": "accuracy"}, "metric 'accuracy' does not fit kind 'generate'. Allowed: exact, f1, numeric."),
        ({"scoring": "sum"}, "a task of kind 'generate' has no choices to weigh."),
        ({"recipes": [{"kind": "labels", "answer_loss": "both"}]}, "answer_loss 'both' needs choices"),
        ({"prompt": "{question}\n{choices}"}, "prompt names the column 'choices', which train.jsonl has not."),
    ],
)
def test_a_free_answer_task_has_no_choices(folder, changes: dict[str, Any], message: str) -> None:
    assert message in folder.problem(**({"kind": "generate", "choices": None, "metric": "exact"} | changes))


@pytest.mark.parametrize(
    ("name", "text"), [("moods.json", '["negative", " neutral", "positive"]'), ("moods.txt", "negative\n\nneutral\npositive\n")]
)
def test_labels_may_stand_in_a_file(folder, name: str, text: str) -> None:
    folder.write(name, text)
    assert folder.task(choices=name).labels == ("negative", "neutral", "positive")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("moods.json", '["a",\n "b"', "moods.json:2: column 5: broken JSON"),
        ("moods.json", '{"a": 1}', "moods.json: labels must be a JSON list of texts"),
        ("moods.json", '["a", "a"]', "moods.json: label 'a' stands 2 times in choices"),
        ("moods.txt", "", "moods.txt: choices has 0 labels. A choice needs at least two."),
    ],
)
def test_a_broken_label_file_is_refused(folder, name: str, text: str, message: str) -> None:
    folder.write(name, text)
    assert message in folder.problem(choices=name)


def test_a_published_figure_makes_a_recorded_teacher_a_reference(folder) -> None:
    folder.rows([{"id": "train-0", "rationale": "because"}], "why.jsonl")
    published = {"quality": 0.6, "items": 100, "source": "a paper"}
    teachers = [{"name": "flan", "rationales": "why.jsonl", "published": published}, {"name": "paper", "published": published}]
    task = folder.task(teachers=teachers, reference=["flan", "paper"])
    assert task.spec.references == ("flan", "paper")
    assert [teacher.kind for teacher in task.spec.teachers] == ["recorded", "published"]


def test_short_forms_stand_for_long_ones(folder) -> None:
    spec = folder.task(data="train.jsonl", recipes="labels", tuning="lora", students={"from": "m", "sizes": 8_000_000}).spec
    assert (spec.data.train, spec.data.test, spec.tuning, spec.students.sizes) == ("train.jsonl", None, ("lora",), ("8000000",))
    assert [recipe.kind for recipe in spec.recipes] == ["labels"]


def test_a_missing_task_file_names_the_nearest_and_init(folder) -> None:
    folder.task_file()
    with pytest.raises(
        DataFileMissing, match=r"there is no task file .*tsk\.yaml\. Did you mean '.*task\.yaml'\? `underdog init`"
    ):
        Task.load(folder.path / "tsk.yaml", folder.settings)


def test_bytes_that_are_no_text_are_named_with_their_line(folder) -> None:
    path = folder.write("task.yaml", GOOD.encode().replace(b"some-model", b"mod\xe8le"))
    with pytest.raises(TaskError, match=r"task\.yaml:8: byte 0xe8 at column 27 is not UTF-8"):
        Task.load(path, folder.settings)


def test_a_spec_made_in_python_is_checked_the_same_way_and_names_the_task(folder) -> None:
    spec = folder.task().spec
    assert Task.from_spec(spec, folder.path, folder.settings).labels == ("negative", "neutral", "positive")
    with pytest.raises(TaskError, match=re.escape("task 'moods': reference 'x' is none of the teachers")):
        Task.from_spec(spec.model_copy(update={"reference": "x"}), folder.path, folder.settings)


def test_the_environment_is_read_only_when_no_settings_are_given(folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = tmp_path / "elsewhere"
    data.mkdir()
    (folder.path / "train.jsonl").rename(data / "train.jsonl")
    path = folder.task_file()
    monkeypatch.setenv("UNDERDOG_DATA", str(data))
    assert Task.load(path).files["train"] == data / "train.jsonl"
    with pytest.raises(DataFileMissing):
        Task.load(path, Settings(cache=tmp_path))


def test_the_fingerprint_follows_what_shapes_results_and_nothing_else(folder) -> None:
    first = folder.task()
    assert re.fullmatch("[0-9a-f]{64}", first.fingerprint)
    assert folder.task(name="other", budget={"minutes": 3}).fingerprint == first.fingerprint
    assert folder.task(seed=1).fingerprint != first.fingerprint
    assert folder.task(seed=1).data_fingerprint == first.data_fingerprint
    assert folder.task(prompt="{question}\nMood:").data_fingerprint != first.data_fingerprint
    (folder.path / "train.jsonl").rename(folder.path / "moved.jsonl")
    moved = folder.task(data={"train": "moved.jsonl", "valid": "valid.jsonl", "test": "test.jsonl"})
    assert moved.fingerprint == first.fingerprint
    with (folder.path / "moved.jsonl").open("a") as file:
        file.write('{"id": "x", "question": "new?", "answer": "neutral"}\n')
    changed = folder.task(data={"train": "moved.jsonl", "valid": "valid.jsonl", "test": "test.jsonl"})
    assert changed.fingerprint != first.fingerprint
    assert changed.data_fingerprint != first.data_fingerprint


def test_labels_inline_and_in_a_file_are_the_same_task(folder) -> None:
    folder.write("moods.txt", "negative\nneutral\npositive\n")
    assert folder.task(choices="moods.txt").fingerprint == folder.task().fingerprint


def test_rationales_shape_the_fingerprint_but_not_the_data(folder) -> None:
    teachers = [{"name": "big", "model": "m"}, {"name": "flan", "rationales": "why.jsonl"}]
    folder.rows([{"id": "train-0", "rationale": "because"}], "why.jsonl")
    first = folder.task(teachers=teachers)
    before = first.fingerprint, first.data_fingerprint
    folder.rows([{"id": "train-0", "rationale": "as it is"}], "why.jsonl")
    second = folder.task(teachers=teachers)
    assert second.fingerprint != before[0]
    assert second.data_fingerprint == before[1]


def test_the_schema_documents_every_field_a_user_may_not_guess() -> None:
    assert TaskSpec.model_json_schema()["properties"]["prompt"]["description"].startswith("Fields in braces")


def test_a_column_to_shorten_has_to_be_there(folder) -> None:
    path = folder.task_file(data={"train": "train.jsonl", "valid": "valid.jsonl", "test": "test.jsonl", "shorten": {"contxt": 9}})
    with pytest.raises(TaskError, match=r"task\.yaml:\d+: data\.shorten names the column 'contxt', which .*train\.jsonl has not"):
        Task.load(path, folder.settings)


def test_drawing_and_shortening_shape_the_data_and_leaving_them_out_does_not(folder) -> None:
    files = {"train": "train.jsonl", "valid": "valid.jsonl", "test": "test.jsonl"}
    prints = [
        folder.task(data=files | more).data_fingerprint
        for more in ({}, {"train_items": None, "shorten": {}}, {"train_items": 5}, {"shorten": {"question": 2}})
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3
