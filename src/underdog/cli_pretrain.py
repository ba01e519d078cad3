"""`underdog pretrain`: a language model learns a folder of texts."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from underdog.settings import Settings

if TYPE_CHECKING:
    from underdog.pretraining.pretrain import Planned, Pretrained


def pretrain(
    file: Annotated[Path, typer.Argument(help="The pre-training file (YAML).")],
    run: Annotated[Path | None, typer.Option("--run", help="Folder of the run; runs/<name> by default.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON to stdout instead of text.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; train nothing.")] = False,
) -> None:
    """Teach a language model a folder of texts, and measure it on texts that it has not seen.

    Stopped at any moment and started again, it goes on where it was.

    Example: underdog pretrain examples/classics-llm.yaml
    """
    from underdog.pretraining.pretrain import plan, pretrain
    from underdog.pretraining.spec import PretrainingSpec
    from underdog.pretraining.words import planned_text, pretrained_text
    from underdog.runs import Run
    from underdog.terminal import shown_progress

    spec, settings = PretrainingSpec.load(file), Settings.from_environ(os.environ)
    folder = run or Path("runs") / spec.name
    found: Planned | Pretrained
    with shown_progress() as progress:
        if dry_run:
            found = plan(spec, settings=settings, progress=progress)
            text = planned_text(found)
        else:
            found = pretrain(spec, Run(folder), settings=settings, progress=progress)
            text = pretrained_text(found, folder)
    typer.echo(found.model_dump_json(indent=1, by_alias=True) if json else text)
