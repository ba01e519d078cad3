"""The teachers of recipe `logits`: who they are, and what each expects of the training texts, recorded once in the run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from underdog import models, runs
from underdog.knowledge import signals
from underdog.knowledge.observe import DRAW_EVERY, DRAWS, lay_texts, observe
from underdog.knowledge.signals import Records
from underdog.models import LanguageModel
from underdog.recipes.logits import refuse_foreign
from underdog.search.candidates import Candidate
from underdog.search.workbench import Workbench
from underdog.students.ladder import Shape
from underdog.task.examples import Example
from underdog.task.recipes import Labels, Logits
from underdog.task.spec import TaskSpec
from underdog.task.teachers import LocalTeacher, TrainedTeacher

Followed = LocalTeacher | TrainedTeacher
"""Teachers whose distributions can be had: their weights are at hand."""


def followed_teachers(spec: TaskSpec, recipe: Logits) -> list[tuple[Followed, float]]:
    """The recipe's teachers, each with its weight; of a trained one, 1."""
    able = [teacher for teacher in spec.teachers if isinstance(teacher, LocalTeacher | TrainedTeacher)]
    if not recipe.teachers:
        chosen: list[Followed] = [teacher for teacher in able if isinstance(teacher, TrainedTeacher)]
    else:
        chosen = [teacher for teacher in able if teacher.name in recipe.teachers]
    weighed = [(teacher, teacher.weight if isinstance(teacher, LocalTeacher) else 1.0) for teacher in chosen]
    return [(teacher, weight) for teacher, weight in weighed if weight > 0]


def refuse_other_tokenizers(bench: Workbench) -> None:
    """Raise TokenizersDiffer, before anything is trained, where a recipe's teacher lacks tokens that students' texts have."""
    spec = bench.task.spec
    followed = [
        teacher for recipe in spec.recipes if isinstance(recipe, Logits) for teacher, _ in followed_teachers(spec, recipe)
    ]
    others = {teacher.model: teacher.name for teacher in followed if teacher.model != spec.students.start}
    if not others:
        return
    texts = [text for one in bench.splits.train for text in (one.question.prompt, one.question.cue, " " + one.answer)]
    used = {token for tokens in bench.base.encode(texts) for token in tokens}
    own = bench.base.tokenizer.convert_ids_to_tokens(sorted(used))
    for model, name in others.items():
        refuse_foreign(spec.students.start, own, name, load_model(bench, model).tokenizer.get_vocab())
        models.forget()


def load_model(bench: Workbench, model: str) -> LanguageModel:
    """A model by name; the one that students come from is loaded once."""
    return bench.base if model == bench.task.spec.students.start else models.load(model, bench.settings, bench.progress)


def trained_candidate(bench: Workbench, teacher: TrainedTeacher) -> Candidate:
    """The whole model fine-tuned on the task's labels."""
    lm = load_model(bench, teacher.model)
    shape = Shape(len(lm.layers), int(lm.config.intermediate_size), len(lm.head_weight), 1, True, lm.parameter_count())
    return Candidate(teacher.model, "whole", shape, Labels(), teacher.tuning)


def shape_of(bench: Workbench, recipe: Logits, examples: Sequence[Example]) -> dict[str, Any]:
    """What shapes the signals that a recipe learns: each teacher's records and weight."""
    return {
        teacher.name: [weight, _name(bench, recipe, teacher, examples)]
        for teacher, weight in followed_teachers(bench.task.spec, recipe)
    }


def records(
    bench: Workbench, recipe: Logits, examples: Sequence[Example], train_teacher: Callable[[TrainedTeacher], Path]
) -> list[tuple[Records, float]]:
    """Each teacher's records of the training examples and its weight; what is not recorded yet is.

    `train_teacher` returns the folder of a trained teacher's model. Raises SignalsDamaged.
    """
    found = []
    for teacher, weight in followed_teachers(bench.task.spec, recipe):
        folder = bench.run.folder / "signals" / _name(bench, recipe, teacher, examples)
        if signals.exist(folder):
            found.append((signals.read(folder), weight))
        else:
            found.append((_record(bench, teacher, examples, folder, train_teacher), weight))
    return found


def _record(
    bench: Workbench,
    teacher: Followed,
    examples: Sequence[Example],
    folder: Path,
    train_teacher: Callable[[TrainedTeacher], Path],
) -> Records:
    if isinstance(teacher, TrainedTeacher):
        lm = models.load(str(train_teacher(teacher)), bench.settings, bench.progress)
    else:
        lm = load_model(bench, teacher.model)
    spec = bench.task.spec
    observed = observe(
        lm,
        lay_texts(lm, examples),
        seed=spec.seed,
        precision=spec.training.precision,
        progress=bench.progress,
        what=f"recording what {teacher.name} expects",
    )
    made = signals.write(
        folder, observed, teacher=teacher.name, vocabulary=lm.tokenizer.get_vocab(), model=teacher.model, seed=spec.seed,
        commit=runs.commit(), when=runs.now(),
    )  # fmt: skip
    bench.progress.say(
        f"Recorded {made.header['positions']:,} positions of {teacher.name}, {made.bytes_per_token:.0f} bytes each"
    )
    del lm
    models.forget()
    return made


def _name(bench: Workbench, recipe: Logits, teacher: Followed, examples: Sequence[Example]) -> str:
    """Fingerprint of one teacher's records."""
    spec = bench.task.spec
    shape: dict[str, Any] = {
        "signals": signals.FORMAT,
        "rule": [signals.MASS, signals.MOST, DRAWS, DRAW_EVERY],
        "model": bench.identity(teacher.model),
        "seed": spec.seed,
        "precision": spec.training.precision,
    }
    if recipe.answers_from is not None:
        shape["answers"] = {example.id: example.answer for example in examples}
    if isinstance(teacher, TrainedTeacher):
        shape["trained"] = teacher.model_dump(exclude={"name", "seeds"})
        shape["training"] = spec.training.model_dump()
        shape["scoring"] = spec.scoring
    return bench.fingerprint(**shape)
