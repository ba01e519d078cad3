"""Commands for replaceable small models: `underdog replace train | compare | list | swap | verify | write`."""

import os
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from underdog.settings import Settings

if TYPE_CHECKING:
    from rich.table import Table

    from underdog.replacing.spec import ReplaceSpec

app = typer.Typer(
    help="Turn one frozen LLM to many tasks with small models that are swapped, and show that it stays as it is.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

File = Annotated[Path, typer.Argument(metavar="FILE", help="The replace file (YAML).")]
RunFolder = Annotated[Path | None, typer.Option("--run", help="Folder of the run; runs/<name> by default.")]
NewRegistry = Annotated[
    Path | None, typer.Option("--registry", help="Folder for the LLM's small models; by default beside the LLM, <folder>-small.")
]
Where = Annotated[
    str | None,
    typer.Option("--registry", metavar="LLM_OR_REGISTRY", help="The registry, or its LLM; by default the only one below runs."),
]
Ways = Annotated[list[str] | None, typer.Option("--way", metavar="NAME", help="Only this way of the file; may be repeated.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON to stdout instead of a table.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan and its cost; train nothing.")]


@app.command(short_help="Train small models beside a frozen LLM.")
def train(
    file: File, way: Ways = None, run: RunFolder = None, registry: NewRegistry = None, json: Json = False, dry_run: DryRun = False
) -> None:
    """Train a replace file's small models beside their frozen LLM, and put them into its registry.

    Stopped at any moment and started again, it goes on where it was.

    Example: underdog replace train examples/shakespeare.yaml
    """
    from underdog.replacing.compare import train
    from underdog.replacing.spec import ReplaceSpec
    from underdog.replacing.words import trained_text
    from underdog.runs import Run
    from underdog.terminal import shown_progress

    spec = ReplaceSpec.load(file, _settings())
    ways = [spec.way(name).known_as for name in way or ()]
    if dry_run:
        _plan(spec, run, ways or [one.known_as for one in spec.replaceable], json)
        return
    folder = run or Path("runs") / spec.name
    where = registry or _registry_of(spec)
    with shown_progress() as progress:
        found = train(spec, Run(folder), where, settings=_settings(), progress=progress, ways=ways)
    said = [{"way": one.way.known_as, "valid": one.valid, "learning_rate": one.rate, **one.best.facts} for one in found.ways]
    text = dumps({"trained": said, "small_models": found.small_models, "registry": str(where)}, indent=1)
    typer.echo(text if json else trained_text(found, where))


@app.command(short_help="Compare small models with LoRA and full fine-tuning.")
def compare(file: File, run: RunFolder = None, registry: NewRegistry = None, json: Json = False, dry_run: DryRun = False) -> None:
    """Train all ways of a replace file, measure them on held-out data, and write the report.

    Stopped at any moment and started again, it goes on where it was.

    Example: underdog replace compare examples/shakespeare.yaml
    """
    from underdog.replacing.compare import compare
    from underdog.replacing.page import write_comparison
    from underdog.replacing.spec import ReplaceSpec
    from underdog.replacing.words import compared_table
    from underdog.runs import Run
    from underdog.terminal import shown_progress

    spec = ReplaceSpec.load(file, _settings())
    if dry_run:
        _plan(spec, run, [], json)
        return
    folder = run or Path("runs") / spec.name
    with shown_progress() as progress:
        found = compare(spec, Run(folder), registry or _registry_of(spec), settings=_settings(), progress=progress)
    paths = write_comparison(found, folder)
    if json:
        typer.echo(found.model_dump_json(indent=1))
        return
    _print(compared_table(found))
    typer.echo(f"\n{found.sentence}\n\nReport: {paths.html}")


@app.command("list", short_help="Show an LLM's small models.")
def list_(
    where: Annotated[str, typer.Argument(metavar="LLM_OR_REGISTRY", help="The LLM, or the folder of its small models.")],
    json: Json = False,
) -> None:
    """Show an LLM's small models: kind, size, what each was made for and trained on. Damaged ones are named.

    Example: underdog replace list runs/classics-llm/model
    """
    from underdog.replacing.registry import find
    from underdog.replacing.words import listed_table

    registry = find(where, _settings())
    found = registry.listed()
    if json:
        typer.echo(dumps([one.model_dump(mode="json") for one in found], indent=1))
    else:
        _print(listed_table(found, registry.model))


@app.command(short_help="Choose the small model that is used.")
def swap(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The small model.")], where: Where = None, json: Json = False
) -> None:
    """Make a small model the one that is used where none is named. One that is damaged, or made for another LLM, is refused.

    Example: underdog replace swap shakespeare-residual --registry runs/classics-llm/model
    """
    from underdog.replacing.registry import find

    registry = find(where, _settings())
    before = registry.current
    found = registry.swap(name)
    instead = f" instead of {before}" if before not in (None, name) else ""
    typer.echo(found.model_dump_json(indent=1) if json else f"{name} is used now{instead}, with {registry.model}.")


@app.command(short_help="Prove that the LLM is unchanged.")
def verify(where: Where = None, json: Json = False) -> None:
    """Load the LLM and all its small models, write with them in one batch, and prove by hash that the LLM is unchanged.

    Ends with exit code 1 where it is not, or where a small model cannot be used.

    Example: underdog replace verify --registry runs/classics-llm/model
    """
    from underdog.replacing.registry import find
    from underdog.replacing.serving import verify
    from underdog.replacing.words import proof_text
    from underdog.terminal import shown_progress

    registry = find(where, _settings())
    with shown_progress() as progress:
        found = verify(registry, _settings(), progress)
    typer.echo(found.model_dump_json(indent=1) if json else proof_text(found))
    if not found.holds or any(one.problem for one in found.small):
        raise typer.Exit(1)


@app.command(short_help="Continue a text with small models.")
def write(
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="The text to go on from.")],
    small: Annotated[
        list[str] | None,
        typer.Option("--small", metavar="NAME", help="Small model; several write in one batch; `llm` is the LLM alone."),
    ] = None,
    where: Where = None,
    max_tokens: Annotated[int, typer.Option(min=1, help="Most tokens to write.")] = 128,
    temperature: Annotated[float, typer.Option(min=0.0, help="0 takes the likeliest token each time.")] = 0.8,
    top_p: Annotated[float, typer.Option(min=0.01, max=1.0, help="Draw from the likeliest tokens that hold this share.")] = 0.95,
    seed: Annotated[int, typer.Option(help="Decides every draw.")] = 0,
    json: Json = False,
) -> None:
    """Continue a text, as it is written; with several small models, all in one batch.

    Example: underdog replace write "To be, or " --small shakespeare-residual --small llm
    """
    from underdog.replacing.registry import find
    from underdog.replacing.serving import Writer, Writing
    from underdog.terminal import shown_progress

    registry = find(where, _settings())
    with shown_progress() as progress:
        writer = Writer(registry, small or (), _settings(), progress)
    texts = [""] * len(writer.names)
    alone = len(texts) == 1 and not json
    for piece in writer.stream(prompt, Writing(max_tokens, temperature, top_p, seed)):
        texts[piece.row] += piece.text
        if alone:
            typer.echo(piece.text, nl=False)
    if json:
        typer.echo(dumps([{"small": name, "text": text} for name, text in zip(writer.names, texts, strict=True)], indent=1))
    elif alone:
        typer.echo("")
    else:
        typer.echo("\n\n".join(f"--- {name} ---\n{text}" for name, text in zip(writer.names, texts, strict=True)))


def _plan(spec: "ReplaceSpec", run: Path | None, ways: list[str], json: bool) -> None:
    from underdog.replacing.estimate import plan
    from underdog.replacing.words import planned_table
    from underdog.runs import Run
    from underdog.terminal import shown_progress

    with shown_progress() as progress:
        found = plan(spec, Run(run or Path("runs") / spec.name), settings=_settings(), progress=progress, ways=ways)
    if json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        _print(planned_table(found))


def _registry_of(spec: "ReplaceSpec") -> Path:
    from underdog.replacing.registry import folder_for

    return folder_for(spec.llm, _settings())


def _print(table: "Table") -> None:
    from rich.console import Console

    Console().print(table)


def _settings() -> Settings:
    return Settings.from_environ(os.environ)
