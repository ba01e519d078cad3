"""Make a page of results from a finished run: `python docs/results/publish.py runs/banking77`.

Writes docs/results/<task>/verdict.json and report.md, or compare.json and compare.md of a comparison of replaceable small
models, so that no figure is typed by hand. The items on which winner and reference differ and the examples of filtered reasons
are left out (the data has its own home and licence), and so are this machine's paths.
"""

import re
import sys
from pathlib import Path

from underdog.replacing import page
from underdog.replacing.compared import Compared
from underdog.report.write import markdown
from underdog.runs import write_text
from underdog.search.verdict import Verdict


def publish(run: Path) -> Path:
    """Write the results of `run` beside this script; return their folder."""
    verdict = Verdict.model_validate_json(_read(run / "verdict.json"))
    command = re.sub(r" --run \S+", "", re.sub(r"^-c ", "underdog ", verdict.command))
    selections = tuple(
        one.model_copy(update={"results": tuple(result.model_copy(update={"examples": ()}) for result in one.results)})
        for one in verdict.selections
    )
    verdict = verdict.model_copy(update={"disagreements": (), "selections": selections, "command": command})
    folder = Path(__file__).parent / verdict.task
    write_text(folder / "verdict.json", verdict.model_dump_json(indent=1) + "\n")
    write_text(folder / "report.md", markdown(verdict))
    return folder


def publish_comparison(run: Path) -> Path:
    """The same of `underdog replace compare`."""
    found = Compared.model_validate_json(_read(run / "compare.json"))
    command = re.sub(r" --(run|registry) \S+", "", re.sub(r"^(-c|cli.py) ", "underdog ", found.command))
    found = found.model_copy(update={"command": command, "registry": Path(found.registry).name})
    folder = Path(__file__).parent / found.name
    write_text(folder / "compare.json", found.model_dump_json(indent=1) + "\n")
    write_text(folder / "compare.md", page.markdown(found))
    return folder


def _read(path: Path) -> str:
    """JSON in which files of the checkout are named from there."""
    return re.sub(r'/[^"\s]*/(examples/[^"\s]+)', r"\1", path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    for name in map(Path, sys.argv[1:]):
        published = (publish_comparison if (name / "compare.json").exists() else publish)(name)
        sys.stdout.write(f"{published}\n")
