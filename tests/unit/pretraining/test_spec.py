"""Pre-training files: short forms, defaults, and every fault with line, field, what is allowed, and what to do."""

from pathlib import Path

import pytest

import texts
from underdog.errors import DataFileMissing, TaskError
from underdog.nanofft.cleaning import ALL, KEEPING_LINES
from underdog.pretraining.spec import NewModel, PretrainingSpec, StartModel
from underdog.training.plan import StepPlan

EXAMPLES = Path(__file__).parents[3] / "examples"


def _said(folder: Path, content: str) -> str:
    with pytest.raises(TaskError) as caught:
        PretrainingSpec.load(texts.write_file(folder, content))
    return str(caught.value).replace(f"{folder}/", "")


def test_short_forms_stand_for_long_ones(tmp_path: Path) -> None:
    spec = PretrainingSpec.load(texts.write_file(tmp_path))
    assert spec.corpus.folder == str(tmp_path / "texts"), "texts beside the file are found wherever it is started from"
    assert spec.corpus.steps == ALL
    assert spec.model == NewModel(embedding_size=32, hidden_size=32, context=32, layers=2)
    assert spec.plan == StepPlan(steps=12, learning_rate=1e-2, batch_size=4, warmup=0.02, precision="float32")
    assert spec.every(None) == 1
    assert spec.every(7) == 7


def test_a_model_that_is_there_already_keeps_capitals_and_lines(tmp_path: Path) -> None:
    content = texts.FILE.replace(
        "{embedding_size: 32, hidden_size: 32, context: 32, layers: 2}", "{from: somewhere, lora_rank: 4}"
    )
    spec = PretrainingSpec.load(texts.write_file(tmp_path, content))
    assert isinstance(spec.model, StartModel)
    assert (spec.model.start, spec.model.context, spec.model.lora_rank) == ("somewhere", 512, 4)
    assert spec.corpus.steps == KEEPING_LINES
    again = PretrainingSpec.model_validate_json(spec.model_dump_json(by_alias=True))
    assert again == spec


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("layers: 2", "layer: 2", "tales.yaml:3: field 'model.layer' is not known. Did you mean 'layers'? Allowed: kind, "),
        ("steps: 12, ", "", "tales.yaml:4: field 'training.steps' is missing. Add it: Optimiser steps."),
        ("hidden_size: 32", "hidden_size: 100", "tales.yaml:3: field 'model.hidden_size' is 100; it must be a multiple of 8."),
        ("context: 32", "context: 1", "tales.yaml:3: field 'model.context' is 1; it must be 2 or more."),
        ("name: tales", "name: ../up", "'name' is '../up'; it must be letters, digits, dots, dashes and underscores."),
        (
            "precision: float32",
            "precision: fp16",
            "field 'training.precision' is 'fp16'. Did you mean 'bf16'? Allowed: bf16, float32.",
        ),
        ("layers: 2", "mixing: dens", "field 'model.mixing' is 'dens'. Did you mean 'dense'? Allowed: dense, decay."),
        ("corpus: texts", "corpus: {folder: texts, held_out: 0.7}", "'corpus.held_out' is 0.7; it must be less than 0.5."),
        (
            "corpus: texts",
            "corpus: {folder: texts, steps: [asci]}",
            "tales.yaml:2: no step of cleaning is called 'asci'. Known: ",
        ),
        ("{embedding_size: 32", "{kind: llama, embedding_size: 32", "field 'model.kind' is 'llama'. Allowed: nanofft, start."),
        ("corpus: texts\n", "", "tales.yaml:1: field 'corpus' is missing. Add it"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in texts.FILE
    assert said in _said(tmp_path, texts.FILE.replace(old, new))


def test_a_file_that_is_not_there_names_one_to_copy(tmp_path: Path) -> None:
    with pytest.raises(DataFileMissing) as caught:
        PretrainingSpec.load(tmp_path / "tales.yaml")
    assert str(caught.value) == (
        f"there is no pre-training file {tmp_path / 'tales.yaml'}. examples/classics-llm.yaml is one to copy."
    )


@pytest.mark.parametrize("name", ["classics-llm", "classics-llm-full"])
def test_the_examples_load(name: str) -> None:
    spec = PretrainingSpec.load(EXAMPLES / f"{name}.yaml")
    assert spec.name == name
    assert spec.corpus.folder == "classics/books"


def test_the_full_example_is_the_papers_setting() -> None:
    model = PretrainingSpec.load(EXAMPLES / "classics-llm-full.yaml").model
    assert model == NewModel(embedding_size=1024, hidden_size=768, context=430, layers=17, mixing="dense")
