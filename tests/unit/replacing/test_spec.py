"""Replace files: short forms, what lies beside the file, and every fault with its line, what is allowed, and what to do."""

from pathlib import Path

import pytest
import yaml

import replaces
from flow.planted import label_rows, write_rows, write_task
from underdog.errors import CorpusUnusable, DataFileMissing, TaskError, UnknownName
from underdog.replacing.spec import ReplaceSpec
from underdog.replacing.ways import FollowerWay, NanoFFT, ResidualWay, Shrunk, kind_of
from underdog.systems.replaceable.kinds import Follower, Residual

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("replace")
    replaces.write(folder)
    write_rows(folder / "rows.jsonl", [{"context": f"text number {number}"} for number in range(8)])
    return folder


def _said(folder: Path, content: str, error: type[Exception] = TaskError) -> str:
    with pytest.raises(error) as caught:
        replaces.load(replaces.write(folder, content))
    return str(caught.value).replace(f"{folder}/", "")


def test_short_forms_stand_for_long_ones(folder: Path) -> None:
    spec = replaces.load(replaces.write(folder))
    assert (spec.llm, spec.text.folder) == (str(folder / "llm"), str(folder / "texts")), "found beside the file"
    assert spec.small == NanoFFT(hidden_size=32, layers=1)
    assert [way.known_as for way in spec.ways] == ["alone", "follower", "residual", "lora", "full"]
    assert spec.rates(spec.way("residual")) == (1e-2, 1e-4)
    assert spec.rates(spec.way("full")) == (1e-2,)
    assert spec.equal_to(spec.way("lora")) == spec.way("residual"), "an adapter is to equal the last small model"
    plan = spec.plan(spec.way("full"), 1e-2, seed=3)
    assert (plan.steps, plan.batch_size, plan.seed, plan.precision) == (24, 8, 3, "float32")
    assert ReplaceSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_way_says_for_itself_what_it_wants(folder: Path) -> None:
    content = replaces.FILE.replace(
        "- {kind: residual, learning_rate: [1.0e-2, 1.0e-4]}",
        "- {kind: residual, name: wide, tables: shared, steps: 7, batch_size: 2, small: 30M}",
    ).replace("steps: 24", "steps: 24, choosing_steps: 5")
    spec = replaces.load(replaces.write(folder, content))
    way = spec.way("wide")
    assert isinstance(way, ResidualWay) and way.small == Shrunk(size="30M")
    assert kind_of(way) == Residual(tables="shared"), "only what joins it to the LLM is saved with a small model"
    assert spec.plan(way, 1e-3, 0).steps == 7 and spec.plan(way, 1e-3, 0).batch_size == 2
    assert spec.plan(way, 1e-3, 0, choosing=True).steps == 5
    assert spec.plan(spec.way("full"), 1e-3, 0, choosing=True).steps == 5
    assert kind_of(FollowerWay(temperature=0)) == Follower(temperature=0)
    with pytest.raises(UnknownName, match=r"no way of this file is called 'wid'. Did you mean 'wide'?"):
        spec.way("wid")


def test_texts_come_from_a_column_too(folder: Path) -> None:
    content = replaces.FILE.replace("text: texts", "text: {rows: rows.jsonl, column: context}")
    spec = replaces.load(replaces.write(folder, content))
    assert spec.text.kind == "table" and spec.on == f"{folder / 'rows.jsonl'} (context)"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("text: texts\n", "", "tales.yaml:1: neither 'text' nor 'task' is written. Name one: a text, or a task file."),
        ("text: texts", "text: texts\ntask: task.yaml", "tales.yaml:4: both 'text' and 'task' are written. Name one"),
        ("hidden_size: 32, ", "", "tales.yaml:4: neither size nor hidden_size is written. Name one: the most parameters"),
        ("hidden_size: 32", "hidden_size: 32, size: 3M", "tales.yaml:4: both size and hidden_size are written. Name one"),
        ("hidden_size: 32", "hidden_size: 30", "tales.yaml:4: field 'small.hidden_size' is 30; it must be a multiple of 8."),
        ("hidden_size: 32", "size: tiny", "tales.yaml:4: 'tiny' is not a size. Write a number of parameters with K, M or B"),
        ("- lora", "- lora\n  - lora", "tales.yaml:10: two ways are called 'lora'. Give one of them another with `name: ...`."),
        ("- lora", "- {kind: lora, name: llm}", "tales.yaml:9: no way can be called 'llm': that is the LLM alone."),
        (
            "- lora",
            "- {kind: lora, equal_to: residul}",
            "tales.yaml:9: no small model is called 'residul'. Did you mean 'residual'? Known: alone, follower, residual.",
        ),
        ("- alone", "- alon", "tales.yaml:6: field 'ways[0]' is 'alon'. Did you mean 'alone'? Allowed: alone, follower, "),
        ("temperature: 0", "temprature: 0", "field 'ways[1].temprature' is not known. Did you mean 'temperature'? Allowed: "),
        ("name: tales", "name: ../up", "field 'name' is '../up'; it must be letters, digits, dots, dashes and underscores."),
        ("steps: 24, ", "", "tales.yaml:11: field 'training.steps' is missing. Add it: Optimiser steps."),
        (
            "text: texts",
            "text: {folder: texts, steps: [asci]}",
            "tales.yaml:3: no step of cleaning is called 'asci'. Known: ",
        ),
        (
            "text: texts",
            "text: {rows: rows.jsonl, column: contxt}",
            "tales.yaml:3: rows.jsonl has no column 'contxt'. Did you mean 'context'? Columns: context.",
        ),
        ("text: texts", "text: {rows: rows.jsonl}", "tales.yaml:3: field 'text.column' is missing."),
    ],
)
def test_what_is_wrong_is_told_with_its_place(folder: Path, old: str, new: str, said: str) -> None:
    assert old in replaces.FILE
    assert said in _said(folder, replaces.FILE.replace(old, new))


def test_what_is_not_there_is_told_with_its_place(folder: Path) -> None:
    said = _said(folder, replaces.FILE.replace("text: texts", "text: textes"), CorpusUnusable)
    assert said.startswith("tales.yaml:3: there is no folder of texts 'textes'; looked for ")
    said = _said(folder, replaces.FILE.replace("text: texts", "text: {rows: row.jsonl, column: context}"), DataFileMissing)
    assert said.startswith("tales.yaml:3: no file row.jsonl")
    said = _said(folder, replaces.FILE.replace("llm: llm", "llm: lm"), UnknownName)
    assert said.startswith("tales.yaml:2: no model is called 'lm'.")
    said = _said(folder, replaces.FILE.replace("text: texts", "task: tasks.yaml"), DataFileMissing)
    assert said.startswith("tales.yaml:3: there is no task file tasks.yaml. Relative paths start at this file, then here.")
    with pytest.raises(
        DataFileMissing, match=r"there is no replace file .*other.yaml. .*examples/shakespeare.yaml is one to copy."
    ):
        ReplaceSpec.load(folder / "other.yaml", replaces.settings(folder))


def test_a_lora_without_a_small_model_needs_a_rank(folder: Path) -> None:
    ways = "ways: [lora, full]\ntraining"
    start, rest = replaces.FILE.partition("ways:")[0], replaces.FILE.partition("training")[2]
    assert "tales.yaml:5: there is no small model that this LoRA could equal. Write its `rank`" in _said(
        folder, start + ways + rest
    )
    spec = replaces.load(replaces.write(folder, start + ways.replace("lora", "{kind: lora, rank: 4}") + rest))
    assert spec.way("lora").rank == 4


def test_a_metric_that_is_no_mean_over_items_is_refused(folder: Path) -> None:
    write_task(folder, label_rows(40), metric="macro_f1")
    said = _said(folder, replaces.FILE.replace("text: texts", "task: task.yaml"))
    assert said.startswith("tales.yaml:3: task 'planted' is measured by macro_f1, which is no mean over items")
    assert "Allowed: accuracy, exact, f1, numeric." in said


REPLACE = ("shakespeare", "shakespeare-full", "shakespeare-smollm2", "pubmedqa-abstracts", "banking77-replace")


@pytest.mark.parametrize("name", REPLACE)
def test_the_examples_are_whole(name: str) -> None:
    data = yaml.safe_load((EXAMPLES / f"{name}.yaml").read_text(encoding="utf-8"))
    spec = ReplaceSpec.model_validate(data)
    assert spec.name == name
    assert {way.kind for way in spec.ways} >= {"residual", "lora", "full"}
