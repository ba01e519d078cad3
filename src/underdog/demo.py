"""The demonstration: routing real lines of dialogue to their topic, on text that is installed with Underdog.

The text is the English part of the ChatterBot corpus (package chatterbot-corpus, BSD-3-Clause): questions and replies,
sorted by its authors into files by topic. A line's topic is the file it stands in.
"""

import importlib.util
import json
from collections import Counter
from pathlib import Path

import yaml

from underdog.errors import TaskError
from underdog.runs import write_text

TOPICS = {
    "ai": "artificial intelligence",
    "coding": "programming",
    "emotion": "feelings",
    "literature": "books",
    "movies": "movies",
    "psychology": "psychology",
    "science": "science",
    "sports": "sports",
    "trivia": "general knowledge",
}
"""Files with enough lines of a topic of their own, and what the topic is called in the task."""
FEWEST_WORDS = 3
TASK_FILE = "demo.yaml"


def write_demo(folder: Path) -> Path:
    """Write the demonstration's data and task file into `folder`; return the task file."""
    lines = demo_lines(corpus_folder())
    rows = [{"id": f"line-{number}", "text": text, "topic": topic} for number, (text, topic) in enumerate(lines.items())]
    write_text(folder / "lines.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    write_text(folder / TASK_FILE, task_text())
    return folder / TASK_FILE


def corpus_folder() -> Path:
    """Where the corpus is installed. Raises TaskError when it is not."""
    spec = importlib.util.find_spec("chatterbot_corpus")
    if spec is None or spec.origin is None:
        raise TaskError("the demo's text is not installed. Install the package chatterbot-corpus, or run `make setup`.")
    return Path(spec.origin).parent / "data" / "english"


def demo_lines(folder: Path) -> dict[str, str]:
    """Every line of at least three words that stands in one topic only, with its topic's name, in the corpus's order."""
    found: dict[str, str] = {}
    places: Counter[str] = Counter()
    for file, topic in TOPICS.items():
        conversations = yaml.safe_load((folder / f"{file}.yml").read_text(encoding="utf-8"))["conversations"]
        lines = {" ".join(str(line).split()): None for conversation in conversations for line in conversation}
        for line in lines:
            if len(line.split()) >= FEWEST_WORDS and len(line) <= 300:
                places[line.casefold()] += 1
                found.setdefault(line, topic)
    return {line: topic for line, topic in found.items() if places[line.casefold()] == 1}


def task_text() -> str:
    """The demonstration's task file."""
    return (Path(__file__).parent / "data" / TASK_FILE).read_text(encoding="utf-8")
