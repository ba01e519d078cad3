"""Make a page of results from a finished run: `python docs/results/publish.py runs/banking77`.

Writes docs/results/<task>/verdict.json and report.md, so that no figure is typed by hand. The items on which winner and reference
differ and the examples of filtered reasons are left out (the data has its own home and licence), and so are this machine's paths.
"""

import re
import sys
from pathlib import Path

from underdog.report.write import markdown
from underdog.runs import write_text
from underdog.search.verdict import Verdict


def publish(run: Path) -> Path:
    """Write the results of `run` beside this script; return their folder."""
    verdict = Verdict.model_validate_json((run / "verdict.json").read_text(encoding="utf-8"))
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


if __name__ == "__main__":
    for name in sys.argv[1:]:
        sys.stdout.write(f"{publish(Path(name))}\n")
