"""The small models of one LLM: listed, swapped, and what is damaged, misnamed or made for another LLM is told."""

import json
import shutil
from pathlib import Path

import pytest

import pairs
import tiny
from underdog.errors import ModelUnavailable, SmallModelDamaged, SmallModelRefused, UnknownName
from underdog.models import LanguageModel
from underdog.replacing.registry import Registry, checked, find, folder_for
from underdog.settings import Settings
from underdog.systems.replaceable.saved import Llm


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_llama(tmp_path_factory.mktemp("llms") / "llm", tied=False, seed=1)


@pytest.fixture(scope="module")
def llm(folder: Path) -> LanguageModel:
    return tiny.load(folder)


@pytest.fixture
def registry(llm: LanguageModel, folder: Path, tmp_path: Path) -> Registry:
    registry = Registry.prepared(tmp_path / "small", str(folder), Llm.of(llm))
    for number, kind in enumerate(("residual", "follower")):
        registry.add(f"tales-{kind}", pairs.pair(kind, llm, pairs.nanofft(seed=number)).small, {"on": "tales"})
    return registry


def test_small_models_are_listed_with_what_is_known_of_them(registry: Registry):
    follower, residual = registry.listed()
    assert (follower.name, follower.kind, follower.current) == ("tales-follower", "follower", False)
    assert (residual.name, residual.kind, residual.current) == ("tales-residual", "residual", True), (
        "the first is the current one"
    )
    assert residual.trained == {"on": "tales"} and residual.problem is None and residual.parameters > 5_000
    again = Registry.opened(registry.folder)
    assert again.listed() == registry.listed() and again.known == registry.known
    assert Path(again.model).name == "llm"


def test_swapping_names_another_one_and_nothing_else(registry: Registry):
    before = {path: path.read_bytes() for path in registry.folder.rglob("*") if path.is_file() and path.name != "current.json"}
    assert registry.swap("tales-follower").current
    assert registry.current == "tales-follower"
    assert before == {path: path.read_bytes() for path in before}
    with pytest.raises(UnknownName, match=r"no small model is called 'tales-folower'. Did you mean 'tales-follower'?"):
        registry.swap("tales-folower")
    assert registry.current == "tales-follower"


@pytest.mark.parametrize("name", ["../llm", "a/b", "", ".hidden", "llm", "llm.json", "current.json", "x" * 81, "a b", "/etc"])
def test_a_name_is_never_a_path(registry: Registry, name: str):
    for act in (registry.swap, checked, registry.of):
        with pytest.raises(UnknownName, match=r"cannot be a small model's name. Allowed: letters, digits, dots"):
            act(name)


@pytest.mark.parametrize("harm", ["weights", "about", "gone"])
def test_a_damaged_one_is_named_and_the_others_are_listed(registry: Registry, harm: str):
    folder = registry.folder / "tales-residual"
    if harm == "weights":
        content = bytearray((folder / "model.safetensors").read_bytes())
        content[-1] ^= 1
        (folder / "model.safetensors").write_bytes(bytes(content))
    elif harm == "about":
        (folder / "replaceable.json").write_text("{")
    else:
        (folder / "config.json").unlink()
    good, bad = registry.listed()
    assert good.problem is None and good.kind == "follower"
    assert bad.kind is None and f"{folder}" in bad.problem and "Train the small model anew" in bad.problem
    with pytest.raises(SmallModelDamaged):
        registry.swap("tales-residual")


def test_one_for_another_llm_is_refused_with_the_reason(registry: Registry, tmp_path: Path):
    other = tiny.load(tiny.write_llama(tmp_path / "other", tied=False, seed=9))
    theirs = Registry.prepared(tmp_path / "theirs", str(tmp_path / "other"), Llm.of(other))
    theirs.add("stray", pairs.pair("residual", other, pairs.nanofft()).small, {})
    shutil.copytree(theirs.folder / "stray", registry.folder / "stray")
    said = next(one.problem for one in registry.listed() if one.name == "stray")
    assert "was made for the LLM" in said and "corrects the mistakes of another model" in said
    with pytest.raises(SmallModelRefused):
        registry.swap("stray")
    assert registry.current == "tales-residual"
    for act in (lambda: Registry.prepared(registry.folder, str(tmp_path / "other"), Llm.of(other)),
                lambda: Registry.existing(registry.folder, Llm.of(other))):  # fmt: skip
        with pytest.raises(SmallModelRefused, match=r"holds small models for the LLM .* Choose another folder with --registry."):
            act()
    assert Registry.existing(tmp_path / "nowhere", Llm.of(other)) is None


def test_a_registry_is_found_by_folder_by_its_llm_or_as_the_only_one(
    llm: LanguageModel, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = Settings(cache=tmp_path, offline=True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelUnavailable, match=r"there is no registry of small models below runs. Name one, or its LLM"):
        find(None, settings)
    shutil.copytree(folder, tmp_path / "runs" / "llm")
    here = folder_for("runs/llm", settings)
    assert here == Path("runs/llm-small")
    with pytest.raises(ModelUnavailable, match=r"llm-small is no registry of small models: it has no llm.json."):
        find("runs/llm", settings)
    Registry.prepared(here, "runs/llm", Llm.of(llm))
    assert json.loads((here / "llm.json").read_text())["model"] == "../llm", "both can be moved together"
    assert find("runs/llm", settings).folder == find(str(here), settings).folder == here
    assert find(None, settings).model == str((tmp_path / "runs" / "llm").resolve())
    assert folder_for("smollm2-135m-instruct", settings) == Path("runs/smollm2-135m-instruct-small")
    Registry.prepared(tmp_path / "runs" / "other-small", "runs/llm", Llm.of(llm))
    with pytest.raises(
        ModelUnavailable, match=r"several registries of small models: runs/llm-small, runs/other-small below runs"
    ):
        find(None, settings)


def test_a_damaged_registry_is_named_and_mended_by_training_again(registry: Registry, llm: LanguageModel, folder: Path):
    (registry.folder / "llm.json").write_text("{")
    with pytest.raises(SmallModelDamaged, match=r"llm.json is damaged: .* it is written anew, the others are kept."):
        Registry.opened(registry.folder)
    again = Registry.prepared(registry.folder, str(folder), Llm.of(llm))
    assert [one.problem for one in again.listed()] == [None, None]
    (registry.folder / "current.json").write_text("{")
    assert again.current is None
