"""Models, students, stacks and systems on local tasks of lm-evaluation-harness, the same drawn items for all, paired.

    UNDERDOG_DATA=... python docs/results/tinybench/study.py runs/tinybench base=smollm2-135m-instruct stack=runs/...

Every `name=model` is asked each task once; what it answered is kept in the run folder, so that more models can be added later and
a run that was stopped goes on. Then results.json and README.md are written beside this script, of all that lies there. The first
named model is the one that the others are compared with. Nothing is chosen here.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from underdog import runs
from underdog.evaluation import words
from underdog.evaluation.statistics import Comparison, Estimate, holm, mean_estimate, paired_difference
from underdog.harness.run import run_tasks
from underdog.progress import Progress
from underdog.settings import Settings
from underdog.terminal import shown_progress

HERE = Path(__file__).parent
TASKS = {"arc_challenge": "acc_norm", "mmlu": "acc", "hellaswag": "acc_norm", "winogrande": "acc", "truthfulqa_mc1": "acc"}
"""And the metric that is usual for each; of a stack or system both are the share of right answers."""
NAMES = {"arc_challenge": "ARC-Challenge", "mmlu": "MMLU", "hellaswag": "HellaSwag", "winogrande": "WinoGrande",
         "truthfulqa_mc1": "TruthfulQA"}  # fmt: skip


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("run", type=Path)
    arguments.add_argument("models", nargs="+", metavar="NAME=MODEL")
    arguments.add_argument("--draw", type=int, default=1_000, help="items of each task, drawn alike for all (%(default)s)")
    given = arguments.parse_args()
    models = dict(one.split("=", 1) for one in given.models)
    settings = Settings.from_environ(os.environ)
    with shown_progress() as progress:
        found = {name: {task: asked(given.run, name, model, task, given.draw, settings, progress) for task in TASKS}
                 for name, model in models.items()}  # fmt: skip
    results = {
        "command": re.sub(r"/\S*/(?=runs/)", "", " ".join(["python", "docs/results/tinybench/study.py", *sys.argv[1:]])),
        "draw": given.draw, "models": list(models), "tasks": summary(found), "compared": compared(found),
        "machine": runs.machine(), "versions": runs.versions(), "commit": runs.commit(),
    }  # fmt: skip
    runs.write_text(HERE / "results.json", json.dumps(results, indent=1) + "\n")
    runs.write_text(HERE / "README.md", page(results))
    return 0


def asked(run: Path, name: str, model: str, task: str, draw: int, settings: Settings, progress: Progress) -> dict[str, Any]:
    """Each document's value of the task's metric, with what it took; asked once."""
    path = run / f"{name}-{task}-{draw}.json"
    if not path.exists():
        progress.say(f"{name}: {NAMES[task]}")
        started = monotonic()
        scores = run_tasks(model, [f"tinybench_{task}"], settings, progress, draw=draw, precision="bf16")
        values = {score.metric: score.values for score in scores}
        kept = {"values": values, "seconds": monotonic() - started, "commit": runs.commit(), "when": runs.now()}
        runs.write_json(path, kept)
    return json.loads(path.read_text(encoding="utf-8"))


def values_of(found: dict[str, Any], task: str) -> np.ndarray:
    return np.array(found[task]["values"][TASKS[task]], dtype=float)


def summary(found: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Of each model and task: the share of right answers, with its interval."""
    return {
        name: {
            task: {
                "quality": mean_estimate(values_of(told, task)).model_dump(), "metric": TASKS[task],
                "all": {metric: float(np.mean(values)) for metric, values in told[task]["values"].items()},
                "seconds": told[task]["seconds"], "commit": told[task]["commit"],
            }
            for task in TASKS
        }
        for name, told in found.items()
    }  # fmt: skip


def compared(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """The first model less each of the others, on each task and over all items; p-values corrected together (Holm)."""
    first, *others = found
    rows, comparisons = [], []
    for other in others:
        for task in (*TASKS, "all"):
            parts = TASKS if task == "all" else (task,)
            ours, theirs = (np.concatenate([values_of(found[name], part) for part in parts]) for name in (first, other))
            rows.append((other, task))
            comparisons.append(paired_difference(ours[None], theirs[None]))
    corrected = holm([one.p_value for one in comparisons])
    return [
        {"first": first, "second": other, "task": task, **one.model_copy(update={"p_holm": p}).model_dump()}
        for (other, task), one, p in zip(rows, comparisons, corrected, strict=True)
    ]


def page(results: dict[str, Any]) -> str:
    models, tasks = results["models"], results["tasks"]
    sizes = [next(iter(tasks.values()))[task]["quality"]["n"] for task in TASKS]
    lines = [
        "# Small models on lm-evaluation-harness's tasks",
        "",
        f"At most {results['draw']:,} items of each task, drawn alike for all: "
        + ", ".join(f"{NAMES[task]} {size:,}" for task, size in zip(TASKS, sizes, strict=True))
        + ". Accuracy in %, with 95 % intervals (Wilson); of single models by normalised length on ARC-Challenge and HellaSwag.",
        "",
        "| who | " + " | ".join(NAMES[task] for task in TASKS) + " | mean |",
        "|:--|" + "--:|" * (len(TASKS) + 1),
    ]
    for name in models:
        found = [Estimate.model_validate(tasks[name][task]["quality"]) for task in TASKS]
        mean = 100 * np.mean([one.mean for one in found])
        lines.append(f"| {name} | " + " | ".join(words.percent(one).replace(" %", "") for one in found) + f" | {mean:.1f} |")
    if len(models) > 1:
        lines += ["", f"## {models[0]} less the others", "", "Paired over items, in points; p corrected for all rows (Holm).", "",
                  "| less | task | difference | p |", "|:--|:--|--:|--:|"]  # fmt: skip
        for one in results["compared"]:
            comparison = Comparison.model_validate(
                {key: value for key, value in one.items() if key not in ("first", "second", "task")}
            )
            p = words.p_value(comparison.p_holm or 0.0).removeprefix("p ").removeprefix("= ")
            task = "all items" if one["task"] == "all" else NAMES[one["task"]]
            lines.append(f"| {one['second']} | {task} | {words.points(comparison.difference).replace(' points', '')} | {p} |")
    lines += [
        "",
        "## How it was done",
        "",
        f"- Command: `{results['command']}`, with UNDERDOG_DATA set",
        f"- Commit of the page: {results['commit']}; of each model's answers: see results.json",
        f"- Machine: {', '.join(f'{name} {value}' for name, value in results['machine'].items())}",
        f"- Versions: {', '.join(f'{name} {value}' for name, value in results['versions'].items())}",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
