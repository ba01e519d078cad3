"""What the names of a system's members stand for: teachers, and the students taught with a recipe, as plans."""

from pathlib import Path

from underdog.errors import TaskError
from underdog.search.references import Asked, Remote, TrainedReference, prepare
from underdog.search.schedule import Search
from underdog.search.trials import Trained, scoring_of, train_and_score
from underdog.search.workbench import Workbench
from underdog.systems.together.plans import ModelPlan, RemotePlan
from underdog.task.prompts import shots
from underdog.teachers.local import precision


def member_plan(bench: Workbench, found: Search, name: str, seed: int) -> ModelPlan | RemotePlan:
    """Return a teacher, or the student taught with a recipe, as a plan; `seed` counts from 0 and decides which of several
    trained models. Trains what is not trained yet. Raises TaskError where no student was taught with the recipe."""
    if any(teacher.name == name for teacher in bench.task.spec.teachers):
        reference = prepare(bench, name)
        if isinstance(reference, Remote):
            return RemotePlan(name=name, teacher=reference.teacher, max_new_tokens=bench.task.spec.max_new_tokens)
        if isinstance(reference, TrainedReference):
            return _trained_plan(bench, name, reference.trials[seed % len(reference.trials)])
        assert isinstance(reference, Asked)  # the task file was checked
        return _asked_plan(bench, name, reference)
    candidate = _taught(found, name).candidate
    return _trained_plan(bench, name, train_and_score(bench, candidate, bench.task.spec.seed + seed))


def _taught(found: Search, recipe: str) -> Trained:
    """The smallest finalist taught with a recipe; without one, the best student on validation that was."""
    finalists = [one.trained for one in found.finalists if _name(one.trained) == recipe]
    if finalists:
        return min(finalists, key=lambda one: one.candidate.shape.parameters)
    tried = [one for one in found.tried if _name(one.trained) == recipe]
    if not tried:
        raise TaskError(f"no student was taught with recipe {recipe!r}, because the search had reached its budget")
    return max(tried, key=lambda one: one.quality).trained


def _name(trained: Trained) -> str:
    return trained.candidate.recipe.name or trained.candidate.recipe.kind


def _trained_plan(bench: Workbench, name: str, trained: Trained) -> ModelPlan:
    return ModelPlan(
        name=name,
        model=str(Path("..", "..", trained.folder.relative_to(bench.run.folder))),
        identity=trained.fingerprint,
        scoring=scoring_of(bench),
        precision=precision(bench.task),
        max_new_tokens=bench.task.spec.max_new_tokens,
    )


def _asked_plan(bench: Workbench, name: str, asked: Asked) -> ModelPlan:
    return ModelPlan(
        name=name,
        model=asked.model,
        identity=bench.identity(asked.model),
        scoring=asked.scoring,
        prefix=shots(bench.splits.train, asked.shots, bench.task.spec.seed),
        precision=precision(bench.task),
        max_new_tokens=bench.task.spec.max_new_tokens,
        first_line_only=True,
    )
