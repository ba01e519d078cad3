"""Adapters in folders: whole or not at all, for one base only, plain LoRA only."""

import json
from pathlib import Path

import pytest
import torch

import tiny
from underdog import runs
from underdog.errors import AdapterRefused
from underdog.systems.stack import files
from underdog.systems.stack.adapters import Bank, adapted_layers, fresh


def saved(folder: Path, tiny_lm, **note: object) -> Path:
    files.save_adapter(fresh(tiny_lm, 4, 0), folder, base="tiny", base_identity="a" * 64, **note)
    return folder


def change(folder: Path, **values: object) -> None:
    config = json.loads((folder / files.CONFIG).read_text())
    (folder / files.CONFIG).write_text(json.dumps(config | values))


def load(folder: Path, identity: str = "a" * 64):
    return files.load_adapter(folder, base="tiny", base_identity=identity)


def test_what_is_saved_is_loaded_with_its_note(tmp_path: Path, tiny_lm) -> None:
    folder = saved(tmp_path / "one", tiny_lm, steps=7)
    found = load(folder)
    begun = fresh(tiny_lm, 4, 0)
    assert (found.rank, found.alpha, found.parameters) == (4, 8.0, begun.parameters)
    for name, (down, up) in begun.weights.items():
        assert torch.equal(found.weights[name][0], down)
        assert torch.equal(found.weights[name][1], up)
    assert files.read_note(folder) == {"base": "tiny", "base_identity": "a" * 64, "steps": 7}
    assert len(begun.weights) == len(adapted_layers(tiny_lm)) == 3 * 7
    assert json.loads((folder / files.CONFIG).read_text())["base_model_name_or_path"] == "tiny"


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, tiny_lm, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs, "write_json", fail)
    with pytest.raises(OSError, match="No space"):
        saved(tmp_path / "one", tiny_lm)
    assert list(tmp_path.iterdir()) == []


def test_an_adapter_of_another_base_is_refused_with_both_named(tmp_path: Path, tiny_lm) -> None:
    folder = saved(tmp_path / "one", tiny_lm)
    with pytest.raises(AdapterRefused) as refused:
        load(folder, "b" * 64)
    assert str(refused.value) == (
        f"{folder}: this adapter was trained on 'tiny' (fingerprint aaaaaaaaaaaaaaaa); the stack's base is 'tiny' "
        "(bbbbbbbbbbbbbbbb). Name that base as the step's `model`, or train the step anew."
    )


def test_an_adapter_that_does_not_fit_is_refused_with_the_numbers(tmp_path: Path, tiny_lm) -> None:
    wide = tiny.load(tiny.write_llama(tmp_path / "wide", hidden_size=64))
    with pytest.raises(AdapterRefused, match=r"is for a layer 'model.layers.0.self_attn.q_proj' of 64×64; .* has one of 32×32"):
        Bank(tiny_lm, [fresh(wide, 4, 0)])
    deep = tiny.load(tiny.write_llama(tmp_path / "deep", layers=4))
    with pytest.raises(AdapterRefused, match=r"adapter 2 changes a layer 'model.layers.3.*', which .* has not \(it has 21"):
        Bank(tiny_lm, [fresh(tiny_lm, 4, 0), fresh(deep, 4, 0)])


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"peft_type": "IA3"}, "an adapter of kind 'IA3'. Only LORA can be put on a stack's base."),
        ({"use_dora": True}, "has use_dora = True, which is not supported. Allowed: plain LoRA, use_dora = False."),
        ({"bias": "all"}, "has bias = 'all', which is not supported. Allowed: plain LoRA, bias = 'none'."),
        ({"rank_pattern": {"q_proj": 2}}, "has rank_pattern = {'q_proj': 2}, which is not supported."),
        ({"r": 3}, "has no pair of matrices of rank 3"),
    ],
)
def test_what_is_no_plain_lora_is_refused(tmp_path: Path, tiny_lm, values: dict[str, object], words: str) -> None:
    folder = saved(tmp_path / "one", tiny_lm)
    change(folder, **values)
    with pytest.raises(AdapterRefused) as refused:
        load(folder)
    assert words in str(refused.value)


def test_a_config_without_rank_and_a_broken_note_are_refused(tmp_path: Path, tiny_lm) -> None:
    folder = saved(tmp_path / "one", tiny_lm)
    change(folder, r=None, lora_alpha=None)
    with pytest.raises(AdapterRefused, match=r"adapter_config.json has no number for r and lora_alpha. Save the adapter again"):
        load(folder)
    folder = saved(tmp_path / "two", tiny_lm)
    (folder / files.NOTE).write_text('{"base": ')
    with pytest.raises(AdapterRefused, match=r"underdog.json: cannot be read \(.*\). Train the step anew."):
        load(folder)


def test_a_folder_without_an_adapter_says_what_is_missing(tmp_path: Path, tiny_lm) -> None:
    with pytest.raises(
        AdapterRefused, match=r"no adapter can be read here .* It needs adapter_config.json and adapter_model.safe"
    ):
        load(tmp_path)
    folder = saved(tmp_path / "one", tiny_lm)
    (folder / files.WEIGHTS).write_bytes(b"not safetensors")
    with pytest.raises(AdapterRefused, match="no adapter can be read here"):
        load(folder)
