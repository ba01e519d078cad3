"""`underdog serve`: models and systems behind an HTTP server."""

import os
from pathlib import Path
from typing import Annotated

import typer

from underdog.settings import Settings


def serve(
    what: Annotated[
        str, typer.Argument(help="A model (folder, catalogue name or hub id), a stack's or system's folder, or a finished run's.")
    ],
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0 for all of this machine.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8000,
    registry: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Serve the small models of this registry beside the LLM.")
    ] = None,
    task: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Task file: how questions are put (by default as in the run), and the store of what servers reply and cost.",
        ),
    ] = None,
    key_from: Annotated[
        str | None, typer.Option(metavar="VARIABLE", help="Environment variable with the key that clients must send.")
    ] = None,
) -> None:
    """Serve a model, a stack, a system, or an LLM with its small models over HTTP, as OpenAI's servers do.

    Example: underdog serve runs/demo

    Example: underdog serve runs/classics-llm/model --registry runs/classics-llm/model-small
    """
    from underdog.serve import require_server

    require_server()
    from underdog.serve.gate import key_from as read_key
    from underdog.serve.run import prepare, run
    from underdog.terminal import shown_progress

    key = read_key(key_from, os.environ)
    settings = Settings.from_environ(os.environ)
    with shown_progress() as progress:
        taken, served = prepare(what, settings, progress, host=host, port=port, small=registry, task=task)
    try:
        run(served, taken, key=key, log=lambda line: typer.echo(line, err=True))
    except KeyboardInterrupt:
        typer.echo("Stopped.", err=True)
