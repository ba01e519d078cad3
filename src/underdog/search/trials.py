"""Training and scoring one candidate with one seed; what is finished is never done again."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underdog import models, runs
from underdog.answering import Answer
from underdog.evaluation.metrics import metric
from underdog.evaluation.score import score
from underdog.evaluation.statistics import Estimate
from underdog.inference.answerer import ModelAnswerer, Scoring
from underdog.inference.layout import Layout
from underdog.knowledge.signals import Records
from underdog.models import LanguageModel
from underdog.recipes.labels import AnswerLoss, default_loss, default_scoring, lay_answers
from underdog.recipes.logits import add_signals, how_to_follow, lay_without_answers
from underdog.recipes.rationales import add_rationales
from underdog.search import distil
from underdog.search.candidates import Candidate, plan_for
from underdog.search.teaching import Teaching, reasons_of, teaching
from underdog.search.workbench import Workbench
from underdog.task.examples import Example
from underdog.task.recipes import Labels, Logits, Recipe
from underdog.task.teachers import TrainedTeacher
from underdog.teachers.local import precision
from underdog.training import checkpoint
from underdog.training.loop import Plan, train
from underdog.training.selfcheck import check_distillation


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished trial: a trained student in a folder and what it answered on validation."""

    fingerprint: str
    candidate: Candidate
    seed: int
    folder: Path
    validation: tuple[str | None, ...]
    facts: dict[str, Any]
    """Parameters trained, seconds, peak memory, steps, rates, notes."""

    def quality(self, bench: Workbench) -> Estimate:
        """Quality on validation."""
        gold = [example.answer for example in bench.splits.valid]
        return metric(bench.task.spec.metric).estimate([self.validation], gold, bench.task.spec.goal.confidence)


def scoring_of(bench: Workbench) -> Scoring:
    """How trained students of this task weigh choices."""
    return bench.task.spec.scoring or default_scoring(bench.task.labels is not None)


def loss_of(bench: Workbench, candidate: Candidate) -> AnswerLoss:
    """How a candidate learns the answer."""
    if bench.task.spec.kind == "generate":
        return "text"
    return candidate.recipe.answer_loss or default_loss(bench.task.labels is not None)


def train_and_score(bench: Workbench, candidate: Candidate, seed: int, overrides: Sequence[float | None] = ()) -> Trained:
    """Train a candidate and let it answer validation, or take what an earlier session finished."""
    plan = plan_for(bench.task, candidate.shape, candidate.tuning, len(bench.splits.train), seed, overrides)
    name = _name(bench, candidate, plan)
    folder = bench.run.folder / "students" / name
    kept = bench.run.read("trials", name)
    if kept is None or not (folder / "config.json").exists():
        kept = _train(bench, candidate, plan, name, folder)
        bench.run.keep("trials", name, kept)
        checkpoint.drop(bench.run.folder / "checkpoints" / name)
    return Trained(name, candidate, seed, folder, tuple(kept["validation"]), kept["facts"])


def _name(bench: Workbench, candidate: Candidate, plan: Plan) -> str:
    learnt = teaching(bench, candidate.recipe)
    besides: dict[str, Any] = {}
    if bench.task.spec.kind == "generate":
        besides["longest_answer"] = bench.task.spec.max_new_tokens
    if bench.knowledge.rationales and not candidate.shape.whole:
        besides["vocabulary_from"] = sorted(set(bench.knowledge.texts))
    if isinstance(candidate.recipe, Logits):
        besides["signals"] = distil.shape_of(bench, candidate.recipe, learnt.examples)
    if candidate.recipe.answers_from is not None:
        besides["answers"] = {example.id: example.answer for example in learnt.examples}
    return bench.fingerprint(
        model=bench.identity(candidate.start),
        shape=runs.plain(candidate.shape),
        recipe=candidate.recipe.model_dump(exclude={"name", "tuning"}),
        tuning=candidate.tuning,
        rank=bench.task.spec.training.lora_rank if candidate.tuning == "lora" else None,
        plan=runs.plain(plan),
        scoring=scoring_of(bench),
        loss=loss_of(bench, candidate),
        knowledge=learnt.shape,
        **besides,
    )


def _train(bench: Workbench, candidate: Candidate, plan: Plan, name: str, folder: Path) -> dict[str, Any]:
    learnt = teaching(bench, candidate.recipe)
    # Before the student is loaded: a teacher that is trained or asked first needs the memory for itself.
    records = _records(bench, candidate.recipe, learnt.examples)
    student = fresh_student(bench, candidate)
    if candidate.tuning == "lora":
        models.seed(plan.seed)
        student = models.with_lora(student, bench.task.spec.training.lora_rank)
    layouts = _layouts(bench, candidate, student, learnt)
    follow, notes = None, []
    if isinstance(candidate.recipe, Logits):
        fits = add_signals(layouts, student, learnt.examples, records, candidate.recipe)
        layouts = [layout for layout in layouts if layout.target_count]
        follow = how_to_follow(candidate.recipe)
        notes = [fit.note for fit in fits] + check_distillation(student, layouts, follow)
    record = train(
        student,
        layouts,
        plan,
        checkpoint_folder=bench.run.folder / "checkpoints" / name,
        progress=bench.progress,
        what=f"{candidate.label} · seed {plan.seed}",
        follow=follow,
    )
    facts = {
        "trained_parameters": student.trainable_count(),
        "seconds": record.seconds,
        "peak_bytes": record.peak_bytes,
        "steps": record.steps,
        "target_tokens_per_second": record.target_tokens / max(record.seconds, 1e-9),
        "tokens_per_second": record.tokens / max(record.seconds, 1e-9),
        "notes": [*notes, *record.notes],
        "final_loss": record.losses[-1],
        "commit": runs.commit(),
        "plan": runs.plain(plan),
    }
    student = models.merged(student)
    answers = answerer(bench, student).answer([example.question for example in bench.splits.valid])
    models.save(student, folder)
    return {"label": candidate.label, "seed": plan.seed, "facts": facts, "validation": [answer.text for answer in answers]}


def _layouts(bench: Workbench, candidate: Candidate, student: LanguageModel, learnt: Teaching) -> list[Layout]:
    """Answers and reasons of a recipe, laid out."""
    recipe = candidate.recipe
    weight = 1.0 if isinstance(recipe, Labels) else recipe.answer_weight
    if weight > 0:
        loss, scoring = loss_of(bench, candidate), scoring_of(bench)
        layouts = lay_answers(student, learnt.examples, loss=loss, scoring=scoring, weight=weight)
    else:
        layouts = lay_without_answers(student, learnt.examples)
    if (reasons := reasons_of(recipe)) is not None:
        add_rationales(layouts, student, learnt.examples, learnt.knowledge, reasons)
    return layouts


def _records(bench: Workbench, recipe: Recipe, examples: Sequence[Example]) -> list[tuple[Records, float]]:
    """What the recipe's teachers expect of the texts, recorded if it is not yet; nothing for recipes without logits."""
    if not isinstance(recipe, Logits):
        return []
    return distil.records(bench, recipe, examples, lambda teacher: _trained_folder(bench, teacher))


def _trained_folder(bench: Workbench, teacher: TrainedTeacher) -> Path:
    """The model folder of a teacher fine-tuned with the task's own seed, trained if it is not yet."""
    overrides = (teacher.epochs, teacher.learning_rate)
    return train_and_score(bench, distil.trained_candidate(bench, teacher), bench.task.spec.seed, overrides).folder


def fresh_student(bench: Workbench, candidate: Candidate) -> LanguageModel:
    """An untrained student of the candidate's shape that may be trained in place."""
    if candidate.shape.whole:
        return models.load(candidate.start, bench.settings, bench.progress)
    return bench.ladder.build(candidate.shape)


def answerer(bench: Workbench, student: LanguageModel) -> ModelAnswerer:
    """A student as this task asks it."""
    return ModelAnswerer(
        student,
        scoring=scoring_of(bench),
        precision=precision(bench.task),
        max_new_tokens=bench.task.spec.max_new_tokens,
        progress=bench.progress,
    )


def test_answers(bench: Workbench, trained: Trained, test: Sequence[Example]) -> tuple[Answer, ...]:
    """What a trained student answers on test, asked once."""
    kept = bench.run.read("test", trained.fingerprint)
    if kept is None:
        student = answerer(bench, models.load(str(trained.folder), bench.settings, bench.progress))
        kept = pack(score(student, test, bench.task.spec.metric).answers)
        bench.run.keep("test", trained.fingerprint, kept)
    return unpack(kept)


def pack(answers: Sequence[Answer]) -> list[list[Any]]:
    """Answers as JSON."""
    return [[answer.question_id, answer.text, answer.choice, answer.problem] for answer in answers]


def unpack(kept: Sequence[Sequence[Any]]) -> tuple[Answer, ...]:
    """Answers from JSON."""
    return tuple(Answer(id, text, choice, problem=problem) for id, text, choice, problem in kept)
