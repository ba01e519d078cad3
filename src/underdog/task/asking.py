"""The prompts with which teachers are asked for reasons: a template for each mode, or the user's own, checked at the start."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from string import Formatter

from underdog.errors import TaskError, nearest
from underdog.settings import Settings
from underdog.task.files import find_file, read_text
from underdog.task.source import Place, Source
from underdog.task.spec import TaskSpec
from underdog.task.teachers import Asking, LocalTeacher, RemoteTeacher

FIELDS = {
    "examples": "the worked examples",
    "question": "what the task's own prompt shows of the item",
    "choices": "its choices, one a line, each after its letter; nothing where there are none",
    "answer": "the gold answer (mode forced only)",
}
BUILT_IN = Path(__file__).parents[1] / "data" / "prompts"


class AskTemplate:
    """A prompt with fields in braces. A line that holds only an empty field is left out, with one blank line after it."""

    def __init__(self, text: str, mode: str) -> None:
        """Raises TaskError where the text is no template for this mode."""
        self.text = text.strip()
        self.mode = mode
        self._check()

    def _check(self) -> None:
        shown = fields_of(self.text, FIELDS)
        if "question" not in shown:
            raise TaskError("the template does not show {question}: every item would be asked the same. Add it.")
        if "answer" in shown and self.mode == "free":
            raise TaskError(
                "the template shows {answer}, but in mode 'free' the teacher answers for itself: what it then writes may be put "
                "into a model's input, and would carry the gold answer there. Take {answer} out, or write `mode: forced`."
            )
        if "answer" not in shown and self.mode == "forced":
            raise TaskError(
                "the template does not show {answer}, towards which mode 'forced' reasons. Add it, or write `mode: free`."
            )

    def render(self, values: Mapping[str, str]) -> str:
        """Fill in the fields. A value's own braces stay as they are."""
        return filled_in(self.text, values)


def filled_in(template: str, values: Mapping[str, str]) -> str:
    """Fill in a template's fields. A line that holds only an empty field is left out, with one blank line after it."""
    lines: list[str] = []
    after_empty = False
    for line in template.split("\n"):
        filled = line.format_map(values)
        if after_empty and not line.strip():
            after_empty = False
            continue
        after_empty = bool(line.strip()) and not filled.strip()
        if not after_empty:
            lines.append(filled)
    return "\n".join(lines)


def fields_of(text: str, allowed: Iterable[str]) -> set[str]:
    """Return the names of a template's fields. Raises TaskError on a broken template, or a field that is not allowed."""
    known = tuple(allowed)
    try:
        names = [found[1:] for found in Formatter().parse(text) if found[1] is not None]
    except ValueError as problem:
        raise TaskError(f"the template is broken: {problem}. Write a brace that is text twice: {{{{ or }}}}.") from None
    for name, spec, conversion in names:
        if name not in known or spec or conversion:
            found = f"{{{name}{f'!{conversion}' if conversion else ''}{f':{spec}' if spec else ''}}}"
            shown = ", ".join(f"{{{field}}}" for field in known)
            raise TaskError(f"the template holds {found!r}.{nearest(str(name), known)} Allowed: {shown}.")
    return {str(name) for name, _, _ in names}


def asked_teachers(spec: TaskSpec) -> Iterator[tuple[int, LocalTeacher | RemoteTeacher, Asking]]:
    """Teachers that are asked for reasons, with their place among the task's teachers and how they are asked."""
    for index, teacher in enumerate(spec.teachers):
        if isinstance(teacher, LocalTeacher | RemoteTeacher) and teacher.ask is not None:
            yield index, teacher, teacher.ask


def read_templates(spec: TaskSpec, folder: Path, settings: Settings, source: Source) -> dict[str, AskTemplate]:
    """Return the template of every teacher that is asked, by name. Raises TaskError with the line of what is wrong."""
    templates: dict[str, AskTemplate] = {}
    for index, teacher, ask in asked_teachers(spec):
        place: Place = ("teachers", index, "ask", "template")
        if ask.template is None:
            templates[teacher.name] = built_in(ask.mode)
            continue
        try:
            path = find_file(ask.template, folder, settings)
            templates[teacher.name] = AskTemplate(read_text(path), ask.mode)
        except TaskError as problem:
            raise type(problem)(f"{source.at(*place)}: template {ask.template!r}: {problem}") from None
    return templates


def built_in(mode: str) -> AskTemplate:
    """The template that comes with Underdog for a mode."""
    return AskTemplate((BUILT_IN / f"{mode}.txt").read_text(encoding="utf-8"), mode)
