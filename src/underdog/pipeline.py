"""The whole flow on one screen; read this first."""

import os
from pathlib import Path
from time import monotonic

from underdog.inference.memory import prepare_process
from underdog.progress import Progress, Silent
from underdog.report.write import write_report
from underdog.runs import Run
from underdog.search.assemble import assemble
from underdog.search.confirm import confirm
from underdog.search.distil import refuse_other_tokenizers
from underdog.search.judge import judge
from underdog.search.references import prepare, refuse_unknown_models
from underdog.search.schedule import search
from underdog.search.stacks import check_stacks
from underdog.search.trials import scoring_of
from underdog.search.verdict import Verdict
from underdog.search.workbench import Workbench
from underdog.settings import Settings
from underdog.task.question_format import QuestionFormat
from underdog.task.task import Task


def find_smallest(
    task: Task, run: str | Path | None = None, *, settings: Settings | None = None, progress: Progress | None = None
) -> Verdict:
    """Return the smallest student, or system of models, that meets the task's goal, with the evidence, or say that none does.

    Works in the folder `run` (`runs/<task name>` by default): killed and called again, it goes on where it stopped.
    Writes report.html, report.md and verdict.json there. Raises UnderdogError for anything a user can mend.
    """
    settings = settings or Settings.from_environ(os.environ)
    prepare_process(settings)
    folder = Run(Path(run) if run is not None else Path("runs") / task.name)
    with folder.session():
        started, before = monotonic(), folder.seconds
        bench = Workbench.of(task, folder, settings, progress or Silent())
        refuse_unknown_models(bench)
        refuse_other_tokenizers(bench)
        check_stacks(bench)
        QuestionFormat.of(task, scoring_of(bench)).keep(folder.folder)
        reference, *others = [prepare(bench, name) for name in task.spec.references]
        found = search(bench, reference)
        systems = assemble(bench, found)
        measured = confirm(bench, reference, others, found.finalists, systems)
        verdict = judge(bench, found, measured, notes=systems.notes, minutes=(before + monotonic() - started) / 60)
        write_report(verdict, folder.folder)
    return verdict
