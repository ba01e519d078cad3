"""A system from its file: models loaded, servers asked."""

from collections.abc import Callable
from dataclasses import dataclass, field
from os.path import normpath
from pathlib import Path

from underdog import models
from underdog.answering import Answerer, Footprint
from underdog.errors import ModelUnavailable, UnderdogError
from underdog.inference.answerer import ModelAnswerer
from underdog.models import LanguageModel
from underdog.progress import Progress, Silent
from underdog.settings import Settings
from underdog.systems.stack.loading import load_stack
from underdog.systems.together.plans import Leaf, ModelPlan, Plan, RemotePlan, StackPlan, SystemFile, build
from underdog.systems.together.speaking import Speaker
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.generating import LocalWriter
from underdog.teachers.remote import RemoteWriter, key_of
from underdog.teachers.remote_answers import RemoteAnswerer
from underdog.teachers.writing import Writer

FILE = "system.json"


class NamedModel(ModelAnswerer):
    """A model under the name that a system gives it."""

    def __init__(self, plan: ModelPlan, lm: LanguageModel, progress: Progress) -> None:
        super().__init__(
            lm, scoring=plan.scoring, prefix=plan.prefix, precision=plan.precision, max_new_tokens=plan.max_new_tokens,
            first_line_only=plan.first_line_only, progress=progress,
        )  # fmt: skip
        self._plan = plan

    @property
    def name(self) -> str:
        return self._plan.name

    def footprint(self) -> Footprint:
        return super().footprint().known_as(self._plan.identity)


@dataclass
class FreshParts:
    """Loads models and asks servers; implements `plans.Parts`."""

    settings: Settings
    folder: Path
    """Where relative model folders start."""
    progress: Progress = field(default_factory=Silent)
    remote: Callable[[RemoteTeacher], Writer] | None = None
    """Makes what asks a server. None: it is asked directly, which a teacher with a cap on spending is refused."""
    _models: dict[str, LanguageModel] = field(default_factory=dict, init=False)
    _answerers: dict[Leaf, Answerer] = field(default_factory=dict, init=False)
    _speakers: dict[ModelPlan | RemotePlan, Speaker] = field(default_factory=dict, init=False)

    def answerer(self, plan: Leaf) -> Answerer:
        if plan not in self._answerers:
            self._answerers[plan] = self._new(plan)
        return self._answerers[plan]

    def speaker(self, plan: ModelPlan | RemotePlan) -> Speaker:
        if plan not in self._speakers:
            self._speakers[plan] = self._speaking(plan)
        return self._speakers[plan]

    def _speaking(self, plan: ModelPlan | RemotePlan) -> Speaker:
        if isinstance(plan, RemotePlan):
            return Speaker.remote(plan.name, plan.teacher, self._writer(plan.teacher), self.progress)
        lm = self._loaded(plan.model, plan.identity)
        writer, size = LocalWriter(lm, precision=plan.precision), lm.footprint().known_as(plan.identity)
        return Speaker.local(plan.name, plan.identity, writer, size, self.progress, precision=plan.precision)

    def _new(self, plan: Leaf) -> Answerer:
        if isinstance(plan, StackPlan):
            place = Path(normpath(self.folder / plan.folder))
            return load_stack(place, self.settings, progress=self.progress, base=self._loaded)
        if isinstance(plan, RemotePlan):
            writer = self._writer(plan.teacher)
            return RemoteAnswerer(plan.teacher, writer, max_new_tokens=plan.max_new_tokens, progress=self.progress)
        return NamedModel(plan, self._loaded(plan.model, plan.identity), self.progress)

    def _loaded(self, model: str, identity: str) -> LanguageModel:
        """The model, loaded once: also where it is a stack's base, whose adapters leave it as it is for the others."""
        if identity not in self._models:
            self._models[identity] = models.load(self._place(model), self.settings, self.progress)
        return self._models[identity]

    def _place(self, model: str) -> str:
        inside = Path(normpath(self.folder / model))
        return str(inside) if (inside / "config.json").exists() else model

    def _writer(self, teacher: RemoteTeacher) -> Writer:
        if self.remote is not None:
            return self.remote(teacher)
        if teacher.cap_usd is not None:
            raise UnderdogError(
                f"teacher {teacher.name!r} has a cap on spending, which is reckoned in a task's knowledge store, and no task is "
                "named. Name its file (`underdog serve ... --task FILE`, `underdog evaluate ... FILE`; from Python, pass "
                "`remote`), or take `cap_usd` out of the system's file."
            )
        return RemoteWriter(teacher, key_of(teacher, self.settings.environ))


def open_system(
    folder: Path, settings: Settings, progress: Progress | None = None, remote: Callable[[RemoteTeacher], Writer] | None = None
) -> Answerer:
    """Return the system whose `system.json` lies in a folder. Raises what `read_system` raises."""
    return build(read_system(folder), FreshParts(settings, folder, progress or Silent(), remote))


def read_system(folder: Path) -> Plan:
    """Return the system as data. Raises ModelUnavailable where there is no `system.json`, or none that can be read."""
    path = folder / FILE
    if not path.exists():
        raise ModelUnavailable(
            f"{folder} holds no {FILE}, so it is no system of several models. Name a folder below `systems` in a run's folder."
        )
    try:
        return SystemFile.model_validate_json(path.read_text(encoding="utf-8")).system
    except ValueError as problem:
        raise ModelUnavailable(
            f"{path} describes no system ({str(problem).splitlines()[0]}). Remove it; `underdog find` on the task writes it anew."
        ) from None
