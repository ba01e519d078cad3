"""Model folders: loaded, saved whole or not at all, counted and told apart."""

import errno
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from tokenizers.processors import TemplateProcessing
from torch import nn

import tiny
from plain import choice_log_likelihoods
from underdog import models
from underdog.answering import Question
from underdog.errors import DiskFull, ModelUnavailable, UnderdogError
from underdog.inference.answerer import ModelAnswerer
from underdog.models import LanguageModel
from underdog.settings import Settings
from underdog.students.vocabulary import trim_vocabulary


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(cache=tmp_path / "cache", offline=True)


def test_a_saved_model_is_loaded_as_it_was(tiny_lm, untied_lm, gemma_lm, tmp_path):
    for lm in (tiny_lm, untied_lm, gemma_lm):
        models.save(lm, tmp_path / "here" / "model")
        again = tiny.load(tmp_path / "here" / "model")
        for (name, mine), (other, theirs) in zip(again.model.named_parameters(), lm.model.named_parameters(), strict=True):
            assert name == other
            assert torch.equal(mine, theirs)
        assert again.encode(tiny.TEXTS) == lm.encode(tiny.TEXTS)
        assert (again.end, again.pad, again.max_length) == (lm.end, lm.pad, 256)
        assert not again.model.training
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["model"], "each took the place of the one before"


def test_what_a_killed_save_left_behind_does_not_get_in_the_way(tiny_lm, tmp_path):
    (tmp_path / "model.partial").mkdir()
    (tmp_path / "model.partial" / "stale.safetensors").write_bytes(b"x")
    models.save(tiny_lm, tmp_path / "model")
    assert not (tmp_path / "model" / "stale.safetensors").exists()
    assert not (tmp_path / "model.partial").exists()


class FullDisk(nn.Module):
    """A model whose saving writes something and then fails."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(500_000))
        self.error = error

    def save_pretrained(self, folder: Path, **_: Any) -> None:
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(b"half")
        raise self.error


@pytest.mark.parametrize(
    "error",
    [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("I/O error: No space left on device (os error 28)")],
    ids=["the system's", "safetensors'"],
)
def test_a_full_disk_leaves_what_was_there_and_says_what_to_do(tiny_lm, tmp_path, error):
    models.save(tiny_lm, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    with pytest.raises(DiskFull) as caught:
        models.save(LanguageModel("8M", FullDisk(error), tiny_lm.tokenizer), tmp_path / "model")
    assert str(caught.value) == (
        f"{tmp_path / 'model'}: no room left while saving '8M' (about 2 MB). "
        "Nothing finished is lost. Free some space, or move the run folder, and start again."
    )
    assert isinstance(caught.value, UnderdogError)
    assert isinstance(caught.value, OSError)
    assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_other_errors_while_saving_stay_what_they_are(tiny_lm, tmp_path):
    with pytest.raises(PermissionError):
        models.save(LanguageModel("8M", FullDisk(PermissionError("no")), tiny_lm.tokenizer), tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_broken_weights_is_named(tiny_folder, tmp_path, settings):
    folder = tmp_path / "broken"
    shutil.copytree(tiny_folder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelUnavailable, match=r"model '.*broken' cannot be loaded from .*Allowed: a catalogue name, a folder"):
        models.load(str(folder), settings)
    weights.unlink()
    with pytest.raises(ModelUnavailable, match=r"broken"):
        models.load(str(folder), settings)


def test_a_pickle_is_never_read(tiny_folder, tmp_path, settings):
    folder = tmp_path / "pickled"
    shutil.copytree(tiny_folder, folder)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(ModelUnavailable):
        models.load(str(folder), settings)


def test_logits_that_are_more_than_hidden_states_times_the_head_are_refused(tmp_path, settings):
    folder = tiny.write_gemma(tmp_path / "capped", final_logit_softcapping=5.0)
    with pytest.raises(ModelUnavailable, match=r"changes its logits after the vocabulary head, which is not supported"):
        models.load(str(folder), settings)


def test_parameters_are_counted_without_loading_and_shared_ones_once(tmp_path, settings):
    for tied in (True, False):
        folder = tiny.write_llama(tmp_path / f"tied-{tied}", tied=tied)
        lm = models.load(str(folder), settings)
        stored = sum(tensor.numel() for tensor in load_file(folder / "model.safetensors").values())
        assert models.parameters_of(str(folder), settings) == lm.parameter_count() == stored
        assert lm.footprint().weights_bytes == 4 * stored
        assert models.load(str(folder), settings, dtype=torch.bfloat16).footprint().weights_bytes == 2 * stored


def test_identity_is_that_of_the_weights_and_not_of_the_place(tiny_folder, tmp_path, settings):
    copied = tmp_path / "elsewhere"
    shutil.copytree(tiny_folder, copied)
    assert models.identity(str(copied), settings) == models.identity(str(tiny_folder), settings)
    tensors = load_file(copied / "model.safetensors")
    tensors["model.norm.weight"][0] += 1e-3
    save_file(tensors, copied / "model.safetensors", {"format": "pt"})
    assert models.identity(str(copied), settings) != models.identity(str(tiny_folder), settings)
    assert models.identity("smollm2-135m-instruct", settings).startswith("b179c952")


@pytest.fixture
def opening_lm(tmp_path: Path) -> LanguageModel:
    """A model whose tokenizer puts a token of its own before every text."""
    folder = tiny.write_llama(tmp_path / "opening", vocab_size=381)
    cutter = tiny.tokenizer()
    cutter.add_special_tokens({"bos_token": "<|begin|>"})
    cutter.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", cutter.bos_token_id)]
    )
    cutter.save_pretrained(folder)
    return tiny.load(folder)


def test_a_beginning_token_stands_once_before_the_prompt(opening_lm):
    assert opening_lm.start_tokens() == [opening_lm.tokenizer.bos_token_id] == [380]
    assert all(380 not in tokens for tokens in opening_lm.encode(tiny.TEXTS))
    question = Question("q", "Where is my card?", "\nIntent:", ("card", "card arrival"))
    (answer,) = ModelAnswerer(opening_lm, scoring="sum", precision="float32").answer([question])
    assert answer.scores == pytest.approx(choice_log_likelihoods(opening_lm, question), abs=1e-4)


def test_a_trimmed_student_keeps_its_beginning_token(opening_lm, tmp_path):
    student = trim_vocabulary(opening_lm, tiny.TEXTS[:2])
    models.save(student, tmp_path / "student")
    for lm in (student, tiny.load(tmp_path / "student")):
        assert lm.start_tokens() == [lm.tokenizer.bos_token_id]
        assert lm.tokenizer.convert_ids_to_tokens(lm.start_tokens()) == ["<|begin|>"]
        assert lm.start_tokens()[0] < len(lm.head_weight)
        assert lm.tokenizer(tiny.TEXTS[0])["input_ids"] == [*lm.start_tokens(), *lm.encode([tiny.TEXTS[0]])[0]]


def test_encoding_nothing_gives_nothing(tiny_lm):
    assert tiny_lm.encode([]) == []
    assert tiny_lm.encode([""]) == [[]]
    assert tiny_lm.start_tokens() == []
