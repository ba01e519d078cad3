"""The part of a task file that describes a stack: small models in a chain, each step a prompt over what came before it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from string import Formatter
from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from underdog.config import Config
from underdog.errors import nearest
from underdog.task.recipes import Filter
from underdog.task.source import Place
from underdog.task.teachers import Asking, LocalTeacher, RecordedTeacher, RemoteTeacher, Teacher, writes_reasons

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9 _.'-]*$")]
"""What the report may call a system."""
ANSWER = "answer"
"""Name of the last step, which answers the question."""
FIELDS = {
    "question": "what the task's own prompt shows of the item",
    "choices": "its choices, one a line, each after its letter; nothing where the task's prompt shows them already",
}
DERIVED = ("keywords", "intermediate")
"""Steps whose texts can be made of a written reason."""
Upstream = Literal["per_step", "global_then_local", "own_upstream"]


class Step(Config):
    """One step: a prompt over the question and the texts of earlier steps, and what is written after it."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
    prompt: str
    """Fields in braces: {question}, {choices}, and the names of earlier steps."""
    instruction: str | None = None
    """What a teacher that writes this step's texts is told to write."""
    max_tokens: PositiveInt = 64
    """Longest text of the step."""
    sentences: bool = True
    """Whether whole sentences are written; filters for sentences (cut_off, too_short, duplicate) pass over other steps."""
    model: str | None = None
    """A base of this step's own; None shares the stack's."""


_QUESTION = "{question}\n{choices}\n"
_UNDERSTAND = Step(
    name="understand",
    prompt=_QUESTION + "Asked for:",
    instruction="Say in one short sentence what the question asks for. Do not answer it.",
)
_KEYWORDS = "Name the three to six words or short phrases that matter most for answering, in one line, separated by commas."
_INTERMEDIATE = "Write one to three sentences that lead to the answer, without naming the answer itself."
PRESETS: dict[str, tuple[Step, ...]] = {
    "four_steps": (
        _UNDERSTAND,
        Step(
            name="keywords",
            prompt=_QUESTION + "Asked for: {understand}\nKeywords:",
            instruction=_KEYWORDS,
            max_tokens=32,
            sentences=False,
        ),
        Step(
            name="intermediate",
            prompt=_QUESTION + "Asked for: {understand}\nKeywords: {keywords}\nThoughts:",
            instruction=_INTERMEDIATE,
            max_tokens=96,
        ),
        Step(
            name=ANSWER,
            prompt=_QUESTION + "Asked for: {understand}\nKeywords: {keywords}\nThoughts: {intermediate}\nAnswer:",
        ),
    ),
    "three_steps": (
        Step(name="keywords", prompt=_QUESTION + "Keywords:", instruction=_KEYWORDS, max_tokens=32, sentences=False),
        Step(
            name="intermediate",
            prompt=_QUESTION + "Keywords: {keywords}\nThoughts:",
            instruction=_INTERMEDIATE,
            max_tokens=96,
        ),
        Step(name=ANSWER, prompt=_QUESTION + "Keywords: {keywords}\nThoughts: {intermediate}\nAnswer:"),
    ),
    "two_steps": (
        Step(name="intermediate", prompt=_QUESTION + "Thoughts:", instruction=_INTERMEDIATE, max_tokens=96),
        Step(name=ANSWER, prompt=_QUESTION + "Thoughts: {intermediate}\nAnswer:"),
    ),
}
"""The steps of FSLM (arXiv 2410.15570) by a description of them, its own prompts being unpublished; and shorter chains."""


class Stack(Config):
    """Small models in a chain that answer as one (FSLM, arXiv 2410.15570): one base, and one LoRA adapter for each step."""

    kind: Literal["stack"] = "stack"
    name: Name = "stack"
    """What the report calls it."""
    model: str | None = None
    """The base that all steps share; None takes the model that students come from."""
    steps: Literal["four_steps", "three_steps", "two_steps"] | Annotated[tuple[Step, ...], Field(min_length=2)] = "four_steps"
    """A preset (understand, keywords, intermediate, answer; or the last three or two of them), or steps of one's own, the
    last of which is called `answer`."""
    teacher: str
    """Name of the teacher that the inner steps' texts come from: asked step by step, or known by its reasons, of which
    keywords and the intermediate text are then made (docs/stack.md)."""
    training: Upstream = "per_step"
    """What a step reads while it learns. per_step: the teacher's texts (the paper); global_then_local: the same, after one
    adapter has learnt the whole chain (arXiv 2401.07324); own_upstream: what the stack's own earlier steps write."""
    folds: PositiveInt = 1
    """With own_upstream: adapters that have not learnt an item write its text for the next step, each having learnt all folds
    but one. 1: the stack's own adapters write it, which have learnt the item."""
    select: Literal["clean"] | tuple[Filter, ...] = ()
    """Filters that the teacher's texts go through."""
    rank: PositiveInt = 8
    """Of each adapter."""
    share_prompt: bool = False
    """Adapters leave the beginning that all steps share alone, in training and in running, so that it is computed once."""
    too_long: Literal["shorten", "refuse"] = "shorten"
    """What becomes of a question whose steps do not fit into the model's positions: the texts of earlier steps are cut, the
    longest first; or it is left unanswered."""
    epochs: PositiveInt | None = None
    """None takes the task's `training.epochs`, or 3."""
    learning_rate: PositiveFloat | None = None
    """None takes the task's `training.learning_rate`, or 5e-4."""

    @property
    def chain(self) -> tuple[Step, ...]:
        """The steps in order."""
        return PRESETS[self.steps] if isinstance(self.steps, str) else self.steps


def asking_of(teacher: Teacher) -> Asking | None:
    """How a teacher is asked; None for one that is not."""
    return teacher.ask if isinstance(teacher, LocalTeacher | RemoteTeacher) else None


def reads_gold(teacher: Teacher) -> bool:
    """Whether what the teacher writes was written with the gold answer in view."""
    ask = asking_of(teacher)
    return ask.mode == "forced" if ask is not None else isinstance(teacher, RecordedTeacher) and teacher.saw_answer


def fields_of(prompt: str) -> list[str]:
    """Names in braces of a step's prompt, in order. Raises ValueError where it is no template."""
    return [name for _, name, _, _ in Formatter().parse(prompt) if name is not None]


def stack_problems(stack: Stack, teachers: Sequence[Teacher]) -> Iterator[tuple[Place, str]]:
    """Say what is wrong with a stack: where, from the stack's own place in the task file, and what to do."""
    yield from _steps(stack)
    yield from _teacher(stack, teachers)
    if stack.folds > 1 and stack.training != "own_upstream":
        yield ("folds",), f"folds are for training own_upstream, not {stack.training}. Remove `folds`, or write own_upstream."


def _steps(stack: Stack) -> Iterator[tuple[Place, str]]:
    chain = stack.chain
    names = [step.name for step in chain]
    for name, count in Counter(names).items():
        if count > 1 or name in FIELDS:
            problem = f"{count} steps are called {name!r}" if count > 1 else f"a step is called {name!r}, as a field is"
            yield ("steps",), f"{problem}. Give each step a name of its own."
    if names[-1] != ANSWER:
        yield ("steps", len(chain) - 1, "name"), f"the last step is {names[-1]!r}; it answers, and must be called 'answer'."
    shown: set[str] = set()
    for index, step in enumerate(chain):
        place: Place = ("steps", index, "prompt")
        try:
            found = list(Formatter().parse(step.prompt))
        except ValueError as problem:
            yield place, f"the prompt of step {step.name!r} is broken: {problem}. Write a brace that is text twice."
            continue
        shown |= {name for _, name, _, _ in found if name is not None}
        for _, name, spec, conversion in found:
            if name is not None:
                yield from ((place, text) for text in _field(name, bool(spec or conversion), step.name, names, index))
    for index, name in enumerate(names[:-1]):
        if name not in shown:
            yield (
                ("steps", index, "name"),
                f"no step reads what step {name!r} writes. Show {{{name}}} in a later one, or drop it.",
            )
    if "question" not in shown:
        yield ("steps", 0, "prompt"), "no step shows {question}: every item would be asked the same. Add it."
    if stack.share_prompt and not shared_lines(chain):
        yield (
            ("share_prompt",),
            "share_prompt needs prompts that all begin with the same lines (such as {question}), and these do not. "
            "Begin every step's prompt alike, or remove share_prompt.",
        )


def _field(name: str, is_formatted: bool, step: str, names: Sequence[str], index: int) -> Iterator[str]:
    """What is wrong with one field of a prompt."""
    allowed = [*FIELDS, *names[:index]]
    listed = ", ".join(f"{{{one}}}" for one in allowed)
    if name == step:
        yield f"step {step!r} shows {{{name}}}, its own text: a cycle. Allowed: {listed}."
    elif name in names[index + 1 :]:
        yield f"step {step!r} shows {{{name}}}, a step that comes after it: a cycle. Put it later, or show one of: {listed}."
    elif name not in allowed or is_formatted:
        yield f"the prompt of step {step!r} holds the field {name!r}.{nearest(name, allowed)} Allowed: {listed}, the name alone."


def _teacher(stack: Stack, teachers: Sequence[Teacher]) -> Iterator[tuple[Place, str]]:
    able = {teacher.name: teacher for teacher in teachers if writes_reasons(teacher)}
    teacher = able.get(stack.teacher)
    if teacher is None:
        known = f"{nearest(stack.teacher, able)} Such teachers: {', '.join(able) or 'none'}."
        yield ("teacher",), f"teacher {stack.teacher!r} is none that writes: one with `ask`, or with `rationales`.{known}"
        return
    for index, step in enumerate(stack.chain[:-1]):
        if isinstance(teacher, RecordedTeacher) and step.name not in DERIVED:
            yield (
                ("steps", index, "name"),
                f"{teacher.name!r} has left reasons only, of which no text for step {step.name!r} can be made. "
                f"Can be made: {', '.join(DERIVED)} (three_steps, two_steps). Or name a teacher that is asked.",
            )
        elif not isinstance(teacher, RecordedTeacher) and step.instruction is None:
            yield (
                ("steps", index, "instruction"),
                f"step {step.name!r} has no `instruction`, by which {teacher.name!r} would know what to write. Add one.",
            )
    if reads_gold(teacher) and not (stack.training == "own_upstream" and stack.folds > 1):
        yield (
            ("training",),
            f"{teacher.name!r} wrote with the gold answer in view: its texts may be learnt, but never be read by a step, nor may "
            "what a step has learnt of an item's text by heart. Write `training: own_upstream` and `folds: 2` (or more), or "
            "take a teacher that has not seen the answer (`ask: {mode: free}`, `saw_answer: false`).",
        )


def shared_lines(chain: Sequence[Step]) -> int:
    """How many lines all steps' prompts begin with alike, without the last line of any and fields of earlier steps."""
    lines = [step.prompt.split("\n") for step in chain]
    most = min(map(len, lines)) - 1
    return next((at for at in range(most) if any(other[at] != lines[0][at] for other in lines)), most)
