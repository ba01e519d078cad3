"""Folders of small texts to learn from: sentences of a planted grammar, in which little is left to chance."""

import random
from pathlib import Path

WHO = ("the old man", "my sister", "a tall sailor", "the captain")
DID = ("walked to", "looked at", "spoke of", "remembered")
WHAT = ("the sea", "a small house", "the long road", "his letter")


def text(seed: int, sentences: int = 300) -> str:
    """Sentences of who did what: nine bits each."""
    rng = random.Random(seed)
    return " ".join(f"{rng.choice(WHO)} {rng.choice(DID)} {rng.choice(WHAT)}." for _ in range(sentences))


def write_texts(folder: Path, count: int = 5, sentences: int = 300) -> Path:
    """A folder of them."""
    folder.mkdir(parents=True)
    for number in range(count):
        (folder / f"tale-{number}.txt").write_text(text(number, sentences), encoding="utf-8")
    return folder


FILE = """\
name: tales
corpus: texts
model: {embedding_size: 32, hidden_size: 32, context: 32, layers: 2}
training: {steps: 12, learning_rate: 1.0e-2, batch_size: 4, precision: float32}
evaluating: {every: 4, tokens: 800, final_tokens: 1500}
sampling: {every: 6, prompts: ["the old ", "my "], max_tokens: 8}
"""


def write_file(folder: Path, content: str = FILE, **texts: int) -> Path:
    """A pre-training file, with its texts beside it."""
    if not (folder / "texts").exists():
        write_texts(folder / "texts", **texts)
    path = folder / "tales.yaml"
    path.write_text(content, encoding="utf-8")
    return path
