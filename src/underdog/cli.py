"""Thin commands: parse, call, print. Data goes to stdout, talk and progress to stderr."""

import errno
import os
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from underdog import cli_knowledge, cli_pretrain, cli_replace, cli_serve, cli_stack
from underdog.errors import UnderdogError
from underdog.settings import Settings

if TYPE_CHECKING:
    from underdog.search.verdict import Verdict


class Commands(TyperGroup):
    """Tells what a user can mend without a traceback: exit code 1, and 130 where the user stopped it."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            _say(str(stop) or "Stopped. Everything finished is kept; run the same command again to go on.")
            raise typer.Exit(130) from None
        except UnderdogError as error:
            _say(f"Error: {error}")
            raise typer.Exit(1) from None
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = f"{error.filename}: " if error.filename else ""
            _say(f"Error: {where}no room left on the disk. Nothing finished is lost. Free some space and start again.")
            raise typer.Exit(1) from None


app = typer.Typer(
    cls=Commands,
    help="Find the smallest language model that does one task as well as a big one.\n\nStart with `underdog demo`, "
    "or with a table of your own: `underdog init tickets.csv`, then `underdog find tickets.yaml`.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.add_typer(cli_knowledge.app, name="knowledge", short_help="Look after what teachers have said.")
app.add_typer(cli_replace.app, name="replace", short_help="Turn one frozen LLM to many tasks with small models.")
app.add_typer(cli_stack.app, name="stack", short_help="Look into a stack: its steps' texts, and what each step costs.")

TaskFile = Annotated[Path, typer.Argument(help="The task file (YAML).")]
RunFolder = Annotated[Path | None, typer.Option("--run", help="Folder of the run; runs/<task name> by default.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout instead of a table.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; train nothing.")]


@app.command(short_help="Run the whole job on real text that comes with Underdog.")
def demo(run: RunFolder = None, json: Json = False, dry_run: DryRun = False) -> None:
    """Run the whole job on real text that is installed with Underdog (about five minutes on two cores).

    Example: underdog demo
    """
    from underdog.demo import write_demo

    folder = run or Path("runs") / "demo"
    _find(write_demo(folder), folder, json, dry_run)


@app.command(short_help="Write a task file for a table of examples.")
def init(
    table: Annotated[Path, typer.Argument(help="A CSV, JSONL or Parquet file of examples.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Task file to write; beside the table by default.")
    ] = None,
    question: Annotated[str | None, typer.Option(help="Column with the question.")] = None,
    answer: Annotated[str | None, typer.Option(help="Column with the answer.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite a task file that is there.")] = False,
) -> None:
    """Write a task file for a table of examples, guessing its columns.

    Example: underdog init tickets.csv --answer team
    """
    from underdog.runs import write_text
    from underdog.task.guess import guess, task_yaml

    path = output or table.with_name(table.name.split(".")[0] + ".yaml")
    if path.exists() and not force:
        raise UnderdogError(f"{path} is there already. Choose another name with --output, or overwrite it with --force.")
    write_text(path, task_yaml(guess(table, _settings(), question=question, answer=answer), path.parent))
    _say(f"Wrote {path}. Look it over, then: underdog check {path}")


@app.command(short_help="Check a task file; show what finding would cost.")
def check(task_file: TaskFile, json: Json = False) -> None:
    """Check a task file and its data; show a prompt, token counts, and what finding will cost. Trains nothing.

    Example: underdog check examples/banking77.yaml
    """
    _plan(task_file, json)


@app.command(short_help="Find the smallest student that meets the goal.")
def find(task_file: TaskFile, run: RunFolder = None, json: Json = False, dry_run: DryRun = False) -> None:
    """Find the smallest student that meets the task's goal, and write the report.

    Stopped at any moment and started again, it goes on where it was.

    Example: underdog find examples/banking77.yaml
    """
    _find(task_file, run, json, dry_run)


@app.command(short_help="Ask the task's teachers, and keep what they say.")
def record(
    task_file: TaskFile,
    teacher: Annotated[str | None, typer.Option(help="Ask only the teacher of this name.")] = None,
    json: Json = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be asked and its cost; ask nothing.")] = False,
) -> None:
    """Ask the task's teachers for their reasons, and keep what they say for good.

    Only what is not kept yet is asked: stopped at any moment and started again, it goes on where it was.

    Example: underdog record tickets.yaml --dry-run
    """
    from dataclasses import asdict

    from underdog.record import estimate_table, estimate_teachers, record_teachers, recorded_table
    from underdog.task.task import Task
    from underdog.terminal import shown_progress

    task = Task.load(task_file, _settings())
    with shown_progress() as progress:
        if dry_run:
            found = estimate_teachers(task, progress, teacher=teacher)
            table = estimate_table(found)
        else:
            found = record_teachers(task, progress, teacher=teacher)
            table = recorded_table(found)
    if json:
        _print(dumps([asdict(one) for one in found], indent=1))
    else:
        _console().print(table)


@app.command(short_help="Score one model or system on a task.")
def evaluate(
    model: Annotated[
        str, typer.Argument(help="A model (folder, catalogue name or hub id), or a stack's, system's or run's folder.")
    ],
    task_file: Annotated[Path | None, typer.Argument(help="The task file (YAML); with --lm-eval for a system's servers.")] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="Worked examples before each question: by default 0, with --lm-eval the task's.")
    ] = None,
    scoring: Annotated[
        str | None, typer.Option(help="constrained, sum or per_byte; by default what students of the task use.")
    ] = None,
    test: Annotated[bool, typer.Option("--test", help="Open the test set (recorded beside the task file's run).")] = False,
    run: RunFolder = None,
    lm_eval: Annotated[
        list[str] | None,
        typer.Option("--lm-eval", metavar="TASK", help="Run tasks of lm-evaluation-harness; several with commas, or repeated."),
    ] = None,
    include_path: Annotated[
        list[Path] | None, typer.Option("--include-path", metavar="DIR", help="More task files of lm-evaluation-harness.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="With --lm-eval: only the first items of each task, so many.")] = None,
    draw: Annotated[
        int | None, typer.Option(min=1, help="With --lm-eval: so many items of each task, drawn alike for all models.")
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="With --lm-eval, of a single model: float32 (default), or bf16, which is faster.")
    ] = None,
    json: Json = False,
    dry_run: DryRun = False,
) -> None:
    """Score one model or system on a task's validation set, or with --test on its test set; or on tasks of lm-evaluation-harness.

    Example: underdog evaluate runs/demo/students/0123456789abcdef runs/demo/demo.yaml

    Example: underdog evaluate smollm2-135m-instruct --lm-eval tinybench_arc_challenge --limit 100
    """
    tasks = [name for names in lm_eval or () for name in names.split(",") if name]
    if task_file is None and not tasks:
        raise UnderdogError("name either a task file, or with --lm-eval tasks of lm-evaluation-harness (`underdog evaluate -h`).")
    if tasks and (scoring or test or run):
        raise UnderdogError(
            "--scoring, --test and --run are for task files: tasks of lm-evaluation-harness settle these themselves."
        )
    if tasks:
        if limit and draw:
            raise UnderdogError("--limit takes the first items of each task, --draw any: name one of them.")
        how = {"limit": limit, "draw": draw, "shots": shots}
        _harness(model, tasks, include_path or [], how, precision, task_file, json=json, dry_run=dry_run)
        return
    assert task_file is not None
    if include_path or limit or draw or precision:
        raise UnderdogError(
            "--include-path, --limit, --draw and --precision are for tasks of lm-evaluation-harness: name one with --lm-eval."
        )
    from underdog.evaluate import check_options, evaluate_model, evaluation_line, plan_line
    from underdog.task.task import Task
    from underdog.terminal import shown_progress

    task = Task.load(task_file, _settings())
    if dry_run:
        check_options(model, shots, scoring)
        _print(plan_line(model, task, shots, test=test))
        return
    with shown_progress() as progress:
        score = evaluate_model(model, task, shots=shots, scoring=scoring, test=test, run=run, progress=progress)
    _print(score.quality.model_dump_json(indent=1) if json else evaluation_line(model, task, score))


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    json: Json = False,
) -> None:
    """Show the verdict of a finished run again.

    Example: underdog show runs/demo
    """
    from pydantic import ValidationError

    from underdog.search.verdict import Verdict

    path = run / "verdict.json"
    if not path.exists():
        raise UnderdogError(
            f"{run}: there is no verdict.json here. Name a run folder that `underdog find` has finished, such as runs/demo."
        )
    try:
        verdict = Verdict.model_validate_json(path.read_text(encoding="utf-8"))
    except ValidationError as error:
        raise UnderdogError(
            f"{path}: this is no verdict that this version reads ({error.error_count()} fields differ). "
            "Run `underdog find` on its task again with --run; finished trials are not repeated."
        ) from None
    _show(verdict, run, json)


app.command(short_help="Teach a language model a folder of texts.")(cli_pretrain.pretrain)
app.command(short_help="Serve a model or system over HTTP.")(cli_serve.serve)


def _harness(
    model: str,
    tasks: list[str],
    include: list[Path],
    how: dict[str, int | None],
    precision: str | None,
    task_file: Path | None,
    *,
    json: bool,
    dry_run: bool,
) -> None:
    from underdog.harness import require_lm_eval

    require_lm_eval()
    from underdog.harness.run import check_precision, find_tasks, run_tasks, scores_json
    from underdog.harness.table import score_table
    from underdog.knowledge.task_writer import TaskWriter
    from underdog.systems.opening import is_system
    from underdog.task.task import Task
    from underdog.terminal import shown_progress

    known = check_precision(model, precision)
    if task_file is not None and not is_system(model):
        raise UnderdogError(
            f"beside --lm-eval, a task file is for systems that ask servers, through its knowledge store; {model} is none. "
            f"Leave {task_file} out, or --lm-eval."
        )
    task = task_file and Task.load(task_file, _settings())
    if dry_run:
        _print(f"Would score {model} on {', '.join(find_tasks(tasks, include)[1])}.")
        return
    with shown_progress() as progress:
        remote = task and (lambda teacher: TaskWriter(task, teacher, progress, own=False))
        scores = run_tasks(model, tasks, _settings(), progress, include=include, precision=known, remote=remote, **how)
    if json:
        _print(scores_json(scores))
    else:
        _console().print(score_table(scores, f"{model}, by lm-evaluation-harness"))


def _find(task_file: Path, run: Path | None, json: bool, dry_run: bool) -> None:
    if dry_run:
        _plan(task_file, json)
        return
    from underdog.pipeline import find_smallest
    from underdog.task.task import Task
    from underdog.terminal import shown_progress

    task = Task.load(task_file, _settings())
    folder = run or Path("runs") / task.name
    with shown_progress() as progress:
        verdict = find_smallest(task, folder, settings=_settings(), progress=progress)
    _show(verdict, folder, json)


def _plan(task_file: Path, json: bool) -> None:
    from underdog.search.estimate import estimate, plan_table
    from underdog.task.task import Task
    from underdog.terminal import shown_progress

    task = Task.load(task_file, _settings())
    with shown_progress() as progress:
        plan = estimate(task, _settings(), progress)
    if json:
        _print(plan.model_dump_json(indent=1))
    else:
        _console().print(plan_table(plan))


def _show(verdict: "Verdict", folder: Path, json: bool) -> None:
    from underdog.report.terminal import terminal_table

    if json:
        _print(verdict.model_dump_json(indent=1))
        return
    console = _console()
    console.print(terminal_table(verdict))
    console.print(f"\n{verdict.sentence}\n", highlight=False, markup=False)
    if verdict.winner_folder:
        console.print(f"Model:  {folder / verdict.winner_folder}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"Report: {folder / 'report.html'}", highlight=False, markup=False, soft_wrap=True)


def _console():
    from rich.console import Console

    return Console()


def _print(text: str) -> None:
    typer.echo(text)


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _settings() -> Settings:
    return Settings.from_environ(os.environ)


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
