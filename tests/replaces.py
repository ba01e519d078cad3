"""Replace files of tiny models and planted texts, and ways to work on them in this process."""

import json
from pathlib import Path
from typing import Any

import pytest

import texts
import tiny
from underdog.replacing import cost
from underdog.replacing.ready import Bench, get_ready
from underdog.replacing.spec import ReplaceSpec
from underdog.runs import Run
from underdog.settings import Settings

FILE = """\
name: tales
llm: llm
text: texts
small: {kind: nanofft, hidden_size: 32, layers: 1}
ways:
  - alone
  - {kind: follower, temperature: 0}
  - {kind: residual, learning_rate: [1.0e-2, 1.0e-4]}
  - lora
  - full
training: {steps: 24, learning_rate: 1.0e-2, context: 32, batch_size: 8, precision: float32}
evaluating: {valid_tokens: 1200, test_tokens: 2500, own_tokens: 800}
"""


def write(folder: Path, content: str = FILE, **changes: str) -> Path:
    """A replace file with its texts and LLM beside it; `changes` replace parts of the content."""
    if not (folder / "texts").exists():
        texts.write_texts(folder / "texts", sentences=120)
        texts.write_texts(folder / "own", count=3, sentences=60)
        tiny.write_llama(folder / "llm", initializer_range=0.05)
    path = folder / "tales.yaml"
    path.write_text(content, encoding="utf-8")
    return path


def settings(folder: Path) -> Settings:
    return Settings(cache=folder / "cache", data=folder, offline=True, threads=1)


def load(path: Path) -> ReplaceSpec:
    return ReplaceSpec.load(path, settings(path.parent))


def bench(path: Path) -> Bench:
    from underdog.progress import Silent

    return get_ready(load(path), Run(path.parent / "run"), settings(path.parent), Silent())


def here(module: str, request: dict[str, Any], what: str) -> dict[str, Any]:
    """In place of a fresh process, which takes seconds; the request and its answer go through JSON as they do there."""
    assert module == "underdog.replacing.cost"
    assert what
    return json.loads(json.dumps(cost.answer(json.loads(json.dumps(request)))))


def measured_here(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(cost, "fresh_process", here)
