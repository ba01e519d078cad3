"""What is wrong with the fields of a task file, or of another kind of file: line, field, what was found, what is allowed."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from underdog.errors import nearest
from underdog.task.source import Place, Source
from underdog.task.spec import TaskSpec

_WANTED = {
    "string_type": "text",
    "tuple_type": "a list",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "{ge:g} or more",
    "less_than": "less than {lt:g}",
    "less_than_equal": "{le:g} or less",
    "too_short": "a list of {min_length} or more",
    "string_pattern_mismatch": "letters, digits, dots, dashes and underscores",
    "model_type": "fields and their values",
    "model_attributes_type": "fields and their values",
    "union_tag_not_found": "fields and their values",
}


def explain(error: ValidationError, source: Source, root: type[BaseModel] = TaskSpec) -> str:
    """Return one line for every field that is wrong, in a file that holds a `root`."""
    found: dict[Place, list[ErrorDetails]] = {}
    for detail in error.errors():
        if _is_echo(detail):
            continue
        found.setdefault(_as_written(detail, source.data), []).append(detail)
    return "\n".join(f"{source.at(*place)}: {_one(place, details, root)}" for place, details in found.items())


def _is_echo(detail: ErrorDetails) -> bool:
    """Tell whether pydantic calls a list too short only because some of its items are wrong."""
    return detail["type"] == "too_short" and len(detail["input"]) >= detail.get("ctx", {})["min_length"]


def _one(place: Place, details: Sequence[ErrorDetails], root: type[BaseModel]) -> str:
    detail = details[0]
    field = dotted(place)
    match detail["type"]:
        case "extra_forbidden" | "invalid_key":
            allowed = _allowed(detail["loc"], root)
            return f"field {field!r} is not known.{nearest(str(place[-1]), allowed)} Allowed: {', '.join(allowed)}."
        case "missing":
            about = _field(detail["loc"], root)
            return f"field {field!r} is missing. Add it{f': {about.description}' if about and about.description else '.'}"
        case "union_tag_not_found" if isinstance(detail["input"], Mapping) and detail["input"]:
            kinds = ", ".join(str(_kind(model)) for model in _models_at(detail["loc"], root))
            return f"field '{field}.kind' is missing. Add it; allowed: {kinds}."
        case "literal_error" | "union_tag_invalid":
            context = detail.get("ctx", {})
            allowed = re.findall(r"'([^']*)'", str(context.get("expected") or context.get("expected_tags")))
            value = str(context.get("tag", detail["input"]))
            return f"field {field!r} is {value!r}.{nearest(value, allowed)} Allowed: {', '.join(allowed)}."
    wanted = " or ".join(dict.fromkeys(_wanted(item) for item in details))
    quotes = details[0]["type"] == "string_type" and not isinstance(detail["input"], dict | list | None)
    hint = " YAML does not read it as text: put it in quotes." if quotes else ""
    return f"field {field!r} is {_shown(detail['input'])}; it must be {wanted}.{hint}"


def _shown(value: Any) -> str:
    """Return a value as the task file would write it."""
    if value is None:
        return "empty"
    if isinstance(value, str):
        return repr(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _wanted(detail: ErrorDetails) -> str:
    if detail["type"] in _WANTED:
        return _WANTED[detail["type"]].format(**detail.get("ctx", {}))
    return detail["msg"].removeprefix("Input should be ")


def dotted(place: Iterable[str | int]) -> str:
    """Return a place as people write it: `teachers[0].model`."""
    return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in place).lstrip(".")


def _as_written(detail: ErrorDetails, data: Any) -> Place:
    """Return the place of an error in the file: pydantic's without the names it gives to branches of a union."""
    place: list[str | int] = []
    for index, step in enumerate(detail["loc"]):
        last = index == len(detail["loc"]) - 1
        if isinstance(data, Mapping) and (step in data or (last and detail["type"] == "missing")):
            data = data.get(step)
        elif isinstance(data, list) and isinstance(step, int):
            data = data[step] if step < len(data) else None
        else:
            continue
        place.append(step)
    if detail["type"] == "union_tag_invalid" and isinstance(data, Mapping):
        place.append("kind")
    if detail["type"] == "invalid_key":
        place[-1] = str(place[-1])
    return tuple(place)


def _allowed(location: Place, root: type[BaseModel]) -> list[str]:
    return [info.alias or name for model in _models_at(location[:-1], root) for name, info in model.model_fields.items()]


def _field(location: Place, root: type[BaseModel]) -> FieldInfo | None:
    return next(_fields(_models_at(location[:-1], root), location[-1]), None)


def _models_at(location: Place, root: type[BaseModel]) -> list[type[BaseModel]]:
    """Return the config classes that may stand at a pydantic location; a union's tag picks one of several."""
    models: list[type[BaseModel]] = [root]
    for step in location:
        fields = list(_fields(models, step))
        if fields:
            models = [model for info in fields for model in _models_in(info.annotation)]
        elif isinstance(step, str):
            models = [model for model in models if _kind(model) == step] or models
    return models


def _kind(model: type[BaseModel]) -> Any:
    return model.model_fields["kind"].default if "kind" in model.model_fields else None


def _fields(models: Iterable[type[BaseModel]], step: str | int) -> Iterator[FieldInfo]:
    for model in models:
        for name, info in model.model_fields.items():
            if step == (info.alias or name):
                yield info


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _models_in(part)
