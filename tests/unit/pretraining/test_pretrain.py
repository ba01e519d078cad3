"""A pre-training from file to model folder: what is learnt, kept, measured, and refused."""

import json
from pathlib import Path

import pytest
import torch

import texts
import tiny
from underdog import models
from underdog.errors import CorpusUnusable, TaskError, TextTooShort, UnderdogError
from underdog.evaluation.loss import measure, score_text
from underdog.models import LanguageModel
from underdog.pretraining.pretrain import Pretrained, plan, pretrain
from underdog.pretraining.spec import PretrainingSpec
from underdog.pretraining.words import planned_text, pretrained_text
from underdog.progress import Silent
from underdog.runs import Run
from underdog.settings import Settings

MODEL = "{embedding_size: 32, hidden_size: 32, context: 32, layers: 2}"


class Listener(Silent):
    def __init__(self) -> None:
        self.said: list[str] = []
        self.steps: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def step(self, what: str, done: int, total: int) -> None:
        self.steps.append(f"{what} {done}/{total}")


def settings(folder: Path) -> Settings:
    return Settings(cache=folder / "cache", offline=True, threads=1)


def run(folder: Path, content: str = texts.FILE, progress: Silent | None = None) -> Pretrained:
    spec = PretrainingSpec.load(texts.write_file(folder, content))
    return pretrain(spec, Run(folder / "run"), settings=settings(folder), progress=progress or Silent())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pretraining")


@pytest.fixture(scope="module")
def listener() -> Listener:
    return Listener()


@pytest.fixture(scope="module")
def finished(folder: Path, listener: Listener) -> Pretrained:
    return run(folder, progress=listener)


def test_the_result_says_what_was_done(finished: Pretrained, folder: Path) -> None:
    assert Pretrained.model_validate_json((folder / "run" / "pretraining.json").read_text()) == finished
    assert (finished.name, finished.steps, finished.tokens) == ("tales", 12, 12 * 4 * 32)
    assert finished.passes == pytest.approx(12 * 4 * 32 / finished.corpus.parts["train"].tokens)
    assert [point.step for point in finished.points] == [4, 8, 12]
    assert [(sample.step, sample.prompt) for sample in finished.samples] == [
        (6, "the old "), (6, "my "), (12, "the old "), (12, "my "),
    ]  # fmt: skip
    losses = [point.bits_per_character.mean for point in finished.points]
    assert losses == sorted(losses, reverse=True), "a grammar is learnt from step to step"
    assert finished.points[0].training_loss > finished.points[2].training_loss
    assert finished.valid.tokens == pytest.approx(1499)
    assert finished.valid.context == 32
    assert finished.valid.bits_per_byte is None
    assert finished.test.bits_per_character.mean == pytest.approx(finished.valid.bits_per_character.mean, rel=0.1)
    assert finished.speed.tokens_per_second == pytest.approx(finished.tokens / finished.seconds)
    assert finished.machine["threads"] == "1"
    assert finished.versions["torch"]
    assert list((folder / "run").rglob("*checkpoint*")) == [], "nothing half done is left"


def test_the_model_folder_is_an_ordinary_one_and_predicts_as_measured(finished: Pretrained, folder: Path) -> None:
    lm = models.load(str(folder / "run" / finished.model), settings(folder), device="cpu")
    assert lm.parameter_count() == finished.parameters == finished.trained_parameters
    assert (lm.max_length, lm.config.model_type) == (32, "nanofft")
    (document,) = finished.corpus.parts["valid"].documents
    text = (folder / "texts" / f"{document}.txt").read_text()[:2999]
    again = measure(score_text(lm, {document: text}, context=32))
    assert again.bits_per_character.mean == pytest.approx(finished.valid.bits_per_character.mean, rel=2e-3)


def test_progress_shows_loss_and_speed_beside_the_bar(listener: Listener, finished: Pretrained) -> None:
    training = [line for line in listener.steps if line.startswith("tales")]
    assert len(training) == 12
    assert training[0] == "tales 1/12"
    assert "tokens/s, " in training[-1]
    assert f"{finished.points[1].bits_per_character.mean:.3f} bits per character 12/12" in training[-1]
    assert listener.said[0].startswith("Step 4 of 12: ")
    assert "bits per held-out character [" in listener.said[0]


def test_what_is_finished_is_not_done_again(finished: Pretrained, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "run" / "model").iterdir()}
    listener = Listener()
    assert run(folder, progress=listener) == finished
    assert listener.steps == listener.said == []
    assert {path: path.stat().st_mtime_ns for path in (folder / "run" / "model").iterdir()} == before


def test_the_folder_of_another_pretraining_is_refused(finished: Pretrained, folder: Path) -> None:
    with pytest.raises(UnderdogError) as caught:
        run(folder, texts.FILE.replace("learning_rate: 1.0e-2", "learning_rate: 2.0e-2"))
    assert str(caught.value) == (
        f"{folder / 'run' / 'pretraining.json'}: this folder holds another pre-training, 'tales' of 12 steps with other settings "
        "or texts. Choose another folder with --run, or delete this one."
    )


def test_looking_more_often_changes_neither_model_nor_name(finished: Pretrained, folder: Path, tmp_path: Path) -> None:
    other = run(tmp_path, texts.FILE.replace("every: 4", "every: 1").replace("every: 6", "every: 5"))
    assert other.fingerprint == finished.fingerprint
    assert len(other.points) == 12
    assert other.valid.bits_per_character == finished.valid.bits_per_character
    ours, theirs = (where / "run" / "model" / "model.safetensors" for where in (tmp_path, folder))
    assert ours.read_bytes() == theirs.read_bytes()


def test_another_seed_is_another_model(finished: Pretrained, tmp_path: Path) -> None:
    other = run(tmp_path, texts.FILE + "seed: 1\n")
    assert other.fingerprint != finished.fingerprint
    assert other.valid.bits_per_character != finished.valid.bits_per_character


def test_the_planned_grammar_is_learnt(tmp_path: Path) -> None:
    """Nine bits a sentence of some 40 characters: a trained model comes near to that, and writes words of the grammar."""
    content = (
        texts.FILE.replace("steps: 12", "steps: 400").replace("batch_size: 4", "batch_size: 8").replace("every: 4", "every: 400")
    )
    found = run(tmp_path, content.replace("layers: 2", "layers: 2, mixing: decay"))
    assert found.test.bits_per_character.mean < 0.6
    assert found.points[0].bits_per_character.low <= found.valid.bits_per_character.mean
    known = " ".join((*texts.WHO, *texts.DID, *texts.WHAT)).replace(".", "").split()
    written = " ".join(sample.text for sample in found.samples if sample.step == 400).replace(".", "").split()
    assert sum(word in known for word in written[1:-1]) >= 0.6 * len(written[1:-1])


@pytest.mark.parametrize("rank", ["", ", lora_rank: 4"], ids=["full", "lora"])
def test_a_model_that_is_there_already_learns_on(tmp_path: Path, rank: str) -> None:
    start = tiny.write_llama(tmp_path / "start")
    content = texts.FILE.replace(MODEL, f"{{from: {start}, context: 64{rank}}}").replace("steps: 12", "steps: 30")
    found = run(tmp_path, content)
    before = tiny.load(start)
    after = tiny.load(tmp_path / "run" / "model")
    assert after.parameter_count() == before.parameter_count(), "adapters are folded in"
    assert (found.trained_parameters < found.parameters) is bool(rank)
    text = {"new": texts.text(99, 40)}
    losses = [measure(score_text(lm, text, context=64)).bits_per_character.mean for lm in (before, after)]
    assert losses[1] < 0.7 * losses[0]
    assert torch.equal(before.head_weight, tiny.load(start).head_weight), "the folder it came from is as it was"


def test_a_plan_costs_no_training(tmp_path: Path) -> None:
    spec = PretrainingSpec.load(texts.write_file(tmp_path))
    found = plan(spec, settings=settings(tmp_path), progress=Silent())
    assert (found.tokens, found.steps) == (12 * 4 * 32, 12)
    assert found.parameters == found.trained_parameters > 0
    assert found.seconds == pytest.approx(found.tokens / found.speed.tokens_per_second)
    assert not (tmp_path / "run").exists()
    text = planned_text(found)
    assert text.startswith(f"tales: {found.parameters:,} parameters.\nTexts: ")
    assert "train" in text
    assert "of what this machine reaches on a matrix product of" in text


def test_the_result_in_words(finished: Pretrained, folder: Path) -> None:
    text = pretrained_text(finished, folder / "run")
    assert f"Validation: {finished.valid.bits_per_character.mean:.3f} bits per character [" in text
    assert f"'the old ' … {finished.samples[2].text!r}" in text
    assert finished.samples[0].text == finished.samples[2].text or repr(finished.samples[0].text) not in text
    assert text.endswith(f"Model:   {folder / 'run' / 'model'}\nFigures: {folder / 'run' / 'pretraining.json'}")


def _refused(folder: Path, content: str, kind: type[UnderdogError], **files: int) -> str:
    spec = PretrainingSpec.load(texts.write_file(folder, content, **files))
    with pytest.raises(kind) as caught:
        pretrain(spec, Run(folder / "run"), settings=settings(folder), progress=Silent())
    assert not (folder / "run" / "model").exists()
    return str(caught.value)


def test_texts_shorter_than_a_block_are_refused(tmp_path: Path) -> None:
    said = _refused(tmp_path, texts.FILE.replace("context: 32", "context: 4000"), TextTooShort, sentences=20)
    assert said.startswith("the text has 1,")
    assert said.endswith("Add more text, or choose a shorter context.")


def test_a_folder_that_is_not_there_is_told(tmp_path: Path) -> None:
    said = _refused(tmp_path, texts.FILE.replace("corpus: texts", "corpus: nowhere"), CorpusUnusable)
    assert said.startswith("there is no folder of texts 'nowhere'; looked for ")
    assert said.endswith("or set UNDERDOG_DATA to the folder that it is relative to.")


def test_a_folder_without_texts_is_told(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = _refused(tmp_path, texts.FILE.replace("corpus: texts", "corpus: empty"), CorpusUnusable)
    assert "empty holds no texts. Allowed: a folder with files *.txt, *.txt.gz or *.txt.xz." in said


def test_a_prompt_that_fills_the_context_is_refused_before_training(tmp_path: Path) -> None:
    said = _refused(tmp_path, texts.FILE.replace('"my "', json.dumps("the sea " * 20)), TaskError)
    assert said.startswith("the prompt 'the sea the sea ")
    assert said.endswith("and the model's context is 32. Allowed: 1 to 31. Change the prompt, or choose a longer context.")


def test_a_context_longer_than_the_model_reads_is_refused(tmp_path: Path, tiny_folder: Path, tiny_lm: LanguageModel) -> None:
    said = _refused(tmp_path, texts.FILE.replace(MODEL, f"{{from: {tiny_folder}, context: 300}}"), TaskError)
    assert said == f"model.context is 300, but {tiny_folder} reads 256 tokens at most. Allowed: 2 to 256."
