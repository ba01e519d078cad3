"""Count what the filters do to recorded reasons: `python docs/results/selection/table.py examples/tinyllm/*.yaml`.

Needs UNDERDOG_DATA. Writes counts.json and README.md beside this script, so that no figure is typed by hand. No text is copied.
"""

import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ftfy

from underdog.knowledge.collect import collect
from underdog.knowledge.select.conclusions import stated_letter
from underdog.knowledge.select.glitch import Glitches, without_bad_start, without_glitches
from underdog.knowledge.select.run_on import before_new_question
from underdog.knowledge.select.select import select
from underdog.runs import write_text
from underdog.task.examples import Example
from underdog.task.files import read_rows
from underdog.task.read import read_examples
from underdog.task.recipes import CLEAN, FILTERS
from underdog.task.splits import split
from underdog.task.task import Task
from underdog.task.teachers import RecordedTeacher

HERE = Path(__file__).parent
GARBAGE_STARTS = {"obqa": 2501, "arc": 151, "riddle": 1559, "pubmedqa": 1, "bioasq": 29}
"""LLaMA-2's training texts that start with a garbage token, as the data's own README counts them with another method."""
NO_TEXT = "nan"
"""What stands in the files where there is no text."""


def selected(task: Task) -> Iterator[dict[str, Any]]:
    """What `select: clean` does to each teacher's training texts."""
    splits = split(task)
    knowledge = collect(task, splits.train)
    test_grams = splits.test.question_grams()
    for teacher, by_item in knowledge.rationales.items():
        started = time.process_time()
        done = select({teacher: by_item}, splits.train, CLEAN, test_grams=test_grams)
        seconds = time.process_time() - started
        counts = {summary.filter: [summary.changed, summary.dropped] for summary in done.summaries}
        left = len(done.rationales[teacher])
        yield {"teacher": teacher, "texts": len(by_item), "left": left, "filters": counts, "seconds": round(seconds, 1)}


def checked(task: Task, quality: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Beginnings and conclusions in whole files, beside the counts that come with the data."""
    examples = {example.id: example for example in read_examples(task, "train")}
    for teacher in task.spec.teachers:
        if not isinstance(teacher, RecordedTeacher):
            continue
        path = task.rationales[teacher.name]
        data_set = path.parent.name
        rows = {id: str(row.values[teacher.field]) for row in read_rows(path) if (id := str(row.values["id"])) in examples}
        texts = {id: ftfy.fix_text(text, uncurl_quotes=False).strip() for id, text in rows.items()}
        known = quality[f"{data_set}/train/{'llama' if 'llama' in path.name else 'flan'}"]
        yield {
            "teacher": teacher.name,
            "texts": len(texts),
            "no text": sum(text in ("", NO_TEXT) for text in texts.values()),
            "garbage starts, data": GARBAGE_STARTS.get(data_set) if "llama" in path.name else None,
            **_beginnings(texts, examples),
            "letters, data": [known.get("states_letter", 0), known.get("states_letter", 0) - known.get("states_gold_letter", 0)],
            "letters, raw": _letters(texts, examples),
            "letters, before run-on": _letters({id: before_new_question(text) for id, text in texts.items()}, examples),
        }


def _beginnings(texts: dict[str, str], examples: dict[str, Example]) -> dict[str, int]:
    """Texts that begin with a glitch word, those with bare signs before the first word, and all that `glitch` touches."""
    glitches = Glitches.of([text for text in texts.values() if text], [ex.question.prompt for ex in examples.values()])
    words = signs = touched = 0
    for id, text in texts.items():
        if text in ("", NO_TEXT):
            continue
        item = " ".join((examples[id].question.prompt, *examples[id].question.choices))
        bare = text.lstrip(" \n\t.,:;)%/|&@")
        signs += bare != text
        words += without_bad_start(bare, item, glitches) != bare
        touched += without_glitches(text, item, glitches) != text
    return {"glitch words": words, "bare signs": signs, "touched": touched}


def _letters(texts: dict[str, str], examples: dict[str, Example]) -> list[int]:
    """How many texts state a letter, and in how many the last one is wrong."""
    said = [(stated_letter(text, len(examples[id].question.choices)), examples[id].gold) for id, text in texts.items()]
    stated = [(letter, gold) for letter, gold in said if letter is not None]
    return [len(stated), sum(letter != gold for letter, gold in stated)]


def wrong(stated: Sequence[int]) -> str:
    return f"{stated[1]} of {stated[0]} ({100 * stated[1] / stated[0]:.0f} %)" if stated[0] else "–"


def page(counts: dict[str, Any], command: str) -> str:
    sets = counts["sets"]
    clean = [
        [name, row["teacher"], row["texts"], *(_cell(*row["filters"][step]) for step in CLEAN), _left(row), row["seconds"]]
        for name, rows in sets.items()
        for row in rows["selected"]
    ]
    starts = [
        [
            name,
            r["teacher"],
            r["texts"],
            r["no text"],
            r["garbage starts, data"] or "–",
            r["glitch words"],
            r["bare signs"],
            r["touched"],
        ]
        for name, rows in sets.items()
        for r in rows["checked"]
    ]
    letters = [
        [name, row["teacher"], *(wrong(row[f"letters, {way}"]) for way in ("data", "raw", "before run-on"))]
        for name, rows in sets.items()
        for row in rows["checked"]
    ]
    parts = {
        "COMMAND": command,
        "MEANINGS": "\n".join(f"- `{name}`: {FILTERS[name]}" for name in CLEAN),
        "CLEAN": _table(["set", "teacher", "texts", *CLEAN, "left", "CPU seconds"], clean),
        "STARTS": _table(
            ["set", "teacher", "texts", "no text", "garbage starts (data's README)", "glitch words", "bare signs", "touched"],
            starts,
        ),
        "LETTERS": _table(["set", "teacher", "data's quality.json", "raw text", "before a run-on"], letters),
    }
    text = (HERE / "page.md").read_text(encoding="utf-8")
    for name, part in parts.items():
        text = text.replace(f"<!-- {name} -->", part)
    return text


def _cell(changed: int, dropped: int) -> str:
    return f"{changed} / {dropped}" if changed or dropped else "·"


def _left(row: dict[str, Any]) -> str:
    return f"{row['left']} ({100 * row['left'] / row['texts']:.0f} %)"


def _table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [head, ["---", "---", *["--:"] * (len(head) - 2)], *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def main(names: Sequence[str]) -> None:
    quality = json.loads(Path(os.environ["UNDERDOG_DATA"], "tinyllm", "quality.json").read_text(encoding="utf-8"))["rationales"]
    sets = {}
    for name in names:
        task = Task.load(name)
        sets[task.name.removeprefix("tinyllm-")] = {"selected": [*selected(task)], "checked": [*checked(task, quality)]}
        sys.stderr.write(f"{name}\n")
    counts = {"sets": sets}
    write_text(HERE / "counts.json", json.dumps(counts, indent=1) + "\n")
    write_text(HERE / "README.md", page(counts, "python docs/results/selection/table.py examples/tinyllm/*.yaml"))


if __name__ == "__main__":
    main(sys.argv[1:])
