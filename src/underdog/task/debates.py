"""The prompt with which the members of a debate are shown one another's reasons: built in, or the user's own."""

from pathlib import Path

from underdog.errors import TaskError
from underdog.settings import Settings
from underdog.task.asking import BUILT_IN, fields_of
from underdog.task.files import find_file, read_text
from underdog.task.source import Source
from underdog.task.spec import TaskSpec
from underdog.task.systems import TEMPLATE_FIELDS, Debate


def read_debates(spec: TaskSpec, folder: Path, settings: Settings, source: Source) -> dict[str, str]:
    """Return the template of every debate, by name. Raises TaskError with the line of what is wrong."""
    found: dict[str, str] = {}
    for index, system in enumerate(spec.systems):
        if not isinstance(system, Debate):
            continue
        if system.template is None:
            found[system.name] = debate_template()
            continue
        try:
            found[system.name] = checked(read_text(find_file(system.template, folder, settings)))
        except TaskError as problem:
            where = source.at("systems", index, "template")
            raise type(problem)(f"{where}: template {system.template!r}: {problem}") from None
    return found


def debate_template() -> str:
    """The prompt that comes with Underdog."""
    return checked((BUILT_IN / "debate.txt").read_text(encoding="utf-8"))


def checked(text: str) -> str:
    """Return a debate's template without white space around it. Raises TaskError where it cannot be one."""
    shown = fields_of(text, TEMPLATE_FIELDS)
    for field, why in (("question", "nobody would know what it is about"), ("others", "nobody would read what others wrote")):
        if field not in shown:
            raise TaskError(f"the template does not show {{{field}}}: {why}. Add it.")
    return text.strip()
