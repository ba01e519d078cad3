"""Small models as folders: read back as they were, refused for another LLM or tokenizer, damage named."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import pairs
import tiny
from underdog import models, runs
from underdog.errors import CannotWrite, ModelUnavailable, SmallModelDamaged, SmallModelRefused
from underdog.models import LanguageModel
from underdog.systems.replaceable import fingerprints, saved
from underdog.systems.replaceable.pair import Pair
from underdog.systems.replaceable.saved import Llm

TRAINED = {"text": "shakespeare", "steps": 7}


@pytest.fixture(scope="module")
def part(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_llama(tmp_path_factory.mktemp("parts") / "small", layers=1, hidden_size=16, seed=5)


@pytest.fixture(scope="module")
def known(untied_lm: LanguageModel) -> Llm:
    return Llm.of(untied_lm)


@pytest.fixture
def folder(untied_lm: LanguageModel, part: Path, known: Llm, tmp_path: Path) -> Path:
    pair = pairs.pair("residual", untied_lm, tiny.load(part))
    saved.save(tmp_path / "tickets", pair.small, known, trained=TRAINED)
    return tmp_path / "tickets"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("kind", sorted(pairs.KINDS))
def test_what_is_read_back_predicts_bit_for_bit_what_was_saved(
    untied_lm: LanguageModel, known: Llm, tmp_path: Path, kind: str, tied: bool
):
    part = pairs.llama(tmp_path / "part", layers=1, hidden_size=16, seed=5, tied=tied)
    pair = pairs.pair(kind, untied_lm, part)
    about = saved.save(tmp_path / "small", pair.small, known, trained=TRAINED)
    small, found = saved.load(tmp_path / "small", untied_lm, known)
    tokens = torch.tensor([untied_lm.encode([tiny.TEXTS[0]])[0]])
    assert torch.equal(Pair(untied_lm, small).log_probabilities(tokens), pair.log_probabilities(tokens))
    assert found == about == saved.about(tmp_path / "small")
    assert (found.kind, found.trained, found.llm) == (pairs.KINDS[kind], TRAINED, known)
    assert found.parameters == small.parameter_count() == pair.small.parameter_count()
    assert all(parameter.requires_grad for parameter in small.parameters())
    if tied and small.part.model.get_output_embeddings() is not None:
        assert small.part.model.get_output_embeddings().weight is small.part.model.get_input_embeddings().weight


@pytest.mark.parametrize("kind", ["informed", "branch"])
@pytest.mark.parametrize("mixing", ["dense", "decay"])
def test_a_feed_forward_in_time_model_is_read_back(tmp_path: Path, mixing: str, kind: str):
    llm = pairs.nanofft(mixing=mixing)
    known = Llm.of(llm)
    pair = pairs.pair(kind, llm, pairs.nanofft(seed=3, hidden_size=16, max_position_embeddings=80, mixing=mixing))
    saved.save(tmp_path / "small", pair.small, known, trained={})
    small, _ = saved.load(tmp_path / "small", llm, known)
    tokens = torch.tensor([llm.encode([tiny.TEXTS[0]])[0]])
    assert torch.equal(Pair(llm, small).log_probabilities(tokens), pair.log_probabilities(tokens))


def test_the_tensors_are_no_longer_tied_to_the_file(folder: Path, untied_lm: LanguageModel, known: Llm):
    small, _ = saved.load(folder, untied_lm, known)
    before = fingerprints.of_weights(small)
    with (folder / saved.WEIGHTS).open("r+b") as file:
        file.truncate(10)
    assert fingerprints.of_weights(small) == before


def test_loading_touches_nothing_of_the_llm(folder: Path, untied_lm: LanguageModel, known: Llm):
    modules = {name: id(module) for name, module in untied_lm.model.named_modules()}
    tensors = {name: tensor.data_ptr() for name, tensor in untied_lm.model.state_dict().items()}
    saved.load(folder, untied_lm, known)
    assert {name: id(module) for name, module in untied_lm.model.named_modules()} == modules
    assert {name: tensor.data_ptr() for name, tensor in untied_lm.model.state_dict().items()} == tensors
    assert Llm.of(untied_lm) == known


def test_a_small_model_of_another_llm_is_refused(folder: Path, untied_lm: LanguageModel):
    other = models.copied(untied_lm)
    with torch.no_grad():
        other.head_weight[3, 3] += 1e-3
    with pytest.raises(SmallModelRefused) as raised:
        saved.load(folder, other, Llm.of(other))
    assert "this small model was made for the LLM" in str(raised.value)
    assert Llm.of(untied_lm).weights[:12] in str(raised.value) and Llm.of(other).weights[:12] in str(raised.value)
    assert "Train a small model for this LLM" in str(raised.value)


def test_a_small_model_of_another_tokenizer_is_refused_first(folder: Path, tmp_path: Path):
    other = tiny.load(tiny.write_llama(tmp_path / "other"))
    cutter = tiny.tokenizer(300)
    foreign = LanguageModel("foreign", other.model, cutter)
    with pytest.raises(SmallModelRefused) as raised:
        saved.load(folder, foreign, Llm.of(foreign))
    assert "was made for the tokenizer of" in str(raised.value)
    assert "its token numbers would mean other texts" in str(raised.value)


def test_a_tokenizers_fingerprint_does_not_hang_on_how_it_was_used():
    cutter = tiny.tokenizer()
    before = fingerprints.of_tokenizer(cutter)
    cutter(["a", "a longer text"], padding=True, truncation=True, max_length=3)
    assert fingerprints.of_tokenizer(cutter) == before
    assert fingerprints.of_tokenizer(tiny.tokenizer(300)) != before


def test_one_changed_bit_changes_the_fingerprint(untied_lm: LanguageModel):
    other = models.copied(untied_lm)
    assert fingerprints.of_llm(other) == fingerprints.of_llm(untied_lm)
    with torch.no_grad():
        other.head_weight.view(torch.int32)[7, 7] ^= 1
    assert fingerprints.of_llm(other) != fingerprints.of_llm(untied_lm)
    half = LanguageModel("half", models.copied(untied_lm).model.bfloat16(), untied_lm.tokenizer)
    assert fingerprints.of_llm(half) != fingerprints.of_llm(untied_lm)


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


@pytest.mark.parametrize("harm", [_flip, _cut, Path.unlink])
@pytest.mark.parametrize("name", [saved.WEIGHTS, saved.CONFIG])
def test_a_damaged_file_is_named(folder: Path, untied_lm: LanguageModel, known: Llm, harm, name: str):
    harm(folder / name)
    with pytest.raises(SmallModelDamaged) as raised:
        saved.load(folder, untied_lm, known)
    assert str(folder / name) in str(raised.value)
    assert "Train the small model anew, or copy its folder once more" in str(raised.value)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": 1}', '{"format": 99}', '{"format": 1, "kind": {"kind": "no"}}'])
def test_a_description_that_is_none_is_named(folder: Path, untied_lm: LanguageModel, known: Llm, content: str):
    (folder / saved.ABOUT).write_text(content)
    with pytest.raises(SmallModelDamaged, match=r"replaceable\.json is"):
        saved.load(folder, untied_lm, known)


@pytest.mark.parametrize(
    ("field", "value"), [("checksums", []), ("parameters", "many"), ("trained", 3), ("llm", "x"), ("kind", None)]
)
def test_a_field_that_is_not_what_was_written_is_named(folder: Path, field: str, value: object):
    said = json.loads((folder / saved.ABOUT).read_text())
    (folder / saved.ABOUT).write_text(json.dumps(said | {field: value}))
    with pytest.raises(SmallModelDamaged, match=rf"replaceable\.json is damaged: {field}: .*Train the small model anew"):
        saved.about(folder)
    del said[field]
    (folder / saved.ABOUT).write_text(json.dumps(said))
    with pytest.raises(SmallModelDamaged, match=rf"replaceable\.json is damaged: {field}: Field required"):
        saved.about(folder)


def test_weights_of_another_shape_are_named(folder: Path, untied_lm: LanguageModel, known: Llm):
    """Whole files that do not belong together, with checksums of their own."""
    import zlib

    said = json.loads((folder / saved.ABOUT).read_text())
    config = json.loads((folder / saved.CONFIG).read_text())
    for change, words in (({"num_hidden_layers": 2}, "no weights for"), ({"intermediate_size": 64}, "cannot be read")):
        (folder / saved.CONFIG).write_text(json.dumps(config | change))
        said["checksums"][saved.CONFIG] = zlib.crc32((folder / saved.CONFIG).read_bytes())
        (folder / saved.ABOUT).write_text(json.dumps(said))
        with pytest.raises(SmallModelDamaged, match=words):
            saved.load(folder, untied_lm, known)


def test_a_folder_without_a_small_model_is_named(tmp_path: Path, untied_lm: LanguageModel, known: Llm):
    with pytest.raises(ModelUnavailable, match=r"holds no small model: it has no replaceable\.json"):
        saved.load(tmp_path, untied_lm, known)


def test_saving_again_replaces_and_a_failure_keeps_what_was_there(
    folder: Path, untied_lm: LanguageModel, known: Llm, part: Path, monkeypatch: pytest.MonkeyPatch
):
    other = pairs.pair("follower", untied_lm, tiny.load(part))
    write, calls = runs.write_bytes, []

    def fail(path: Path, data: bytes) -> None:
        calls.append(path.name)
        if len(calls) == 2:
            raise CannotWrite("stopped by the test")
        write(path, data)

    monkeypatch.setattr(runs, "write_bytes", fail)
    with pytest.raises(CannotWrite):
        saved.save(folder, other.small, known, trained={})
    monkeypatch.undo()
    assert saved.load(folder, untied_lm, known)[1].kind == pairs.KINDS["residual"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    saved.save(folder, other.small, known, trained={})
    assert saved.load(folder, untied_lm, known)[1].kind == pairs.KINDS["follower"]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    shutil.rmtree(folder)


def test_a_small_model_is_not_lost_where_its_successor_is_stopped_half_way(
    folder: Path, untied_lm: LanguageModel, part: Path, known: Llm, monkeypatch: pytest.MonkeyPatch
):
    before, rename = (folder / "model.safetensors").read_bytes(), Path.rename

    def stopped(path: Path, target: Path) -> Path:
        if path.name.endswith(".new.partial"):
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", stopped)
    with pytest.raises(KeyboardInterrupt):
        saved.save(folder, pairs.pair("informed", untied_lm, tiny.load(part)).small, known, trained=TRAINED)
    assert (folder / "model.safetensors").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
