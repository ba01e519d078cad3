"""A system from its plan: models loaded once, folders found, what asking a server needs, and the cost of the whole chain."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import tiny
from underdog import models
from underdog.answering import Question
from underdog.errors import ModelUnavailable, UnderdogError
from underdog.evaluation import cost as single_cost
from underdog.progress import Silent
from underdog.runs import write_json, write_text
from underdog.search.members import BenchParts, _Late
from underdog.settings import Settings
from underdog.systems.stack.adapters import Adapter, fresh
from underdog.systems.stack.answerer import StackAnswerer
from underdog.systems.stack.files import save_adapter
from underdog.systems.stack.loading import load_stack
from underdog.systems.together import cost
from underdog.systems.together.parts import FreshParts, NamedModel, open_system
from underdog.systems.together.plans import (
    CalibratedPlan,
    CascadePlan,
    DebatePlan,
    ModelPlan,
    Parts,
    RemotePlan,
    SamplesPlan,
    SamplingPlan,
    StackPlan,
    SystemFile,
    VotePlan,
    build,
    leaves,
    writes,
)
from underdog.systems.together.votes import Vote
from underdog.task.stack import PRESETS
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.writing import Request, Sampling

QUESTIONS = [Question(f"q{n}", f"Where is my card? {n}", "\nIntent:", ("card arrival", "exchange rate")) for n in range(12)]

NO_BENCH: Any = SimpleNamespace(progress=Silent())
"""For members whose size needs no run."""


def model(name: str = "a", folder: str = "../../students/one") -> ModelPlan:
    return ModelPlan(name=name, model=folder, identity=folder, scoring="constrained", precision="float32", max_new_tokens=8)


def sampling() -> SamplingPlan:
    return SamplingPlan(max_tokens=4, temperature=1.0, top_p=1.0, seed=0, stop=())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with two students, and the folder of a cascade of both."""
    folder = tmp_path_factory.mktemp("run")
    tiny.write_llama(folder / "students" / "one")
    tiny.write_llama(folder / "students" / "two", seed=1)
    system = folder / "systems" / "abc"
    write_text(system / "system.json", SystemFile(system=cascade()).model_dump_json())
    return folder


def cascade() -> CascadePlan:
    small = CalibratedPlan(inner=model(), temperature=2.0, fitted_on=9)
    big = model("b", "../../students/two")
    return CascadePlan(name="chain", small=small, big=big, threshold=2.0, share=1.0, when_unreachable="fail")


def settings(run: Path) -> Settings:
    return Settings(cache=run / "cache", offline=True, threads=1)


def test_a_system_is_opened_from_its_folder_and_answers_as_its_parts_do(run: Path) -> None:
    system = open_system(run / "systems" / "abc", settings(run))
    lm = tiny.load(run / "students" / "two")
    alone = NamedModel(model("b"), lm, FreshParts(settings(run), run).progress).answer(QUESTIONS)
    answers = system.answer(QUESTIONS)
    assert [one.text for one in answers] == [one.text for one in alone]
    assert {one.by for one in answers} == {"b"}
    assert system.footprint().parameters == 2 * lm.parameter_count()


def test_a_folder_without_a_system_is_refused(run: Path) -> None:
    with pytest.raises(ModelUnavailable, match=r"holds no system.json, so it is no system of several models"):
        open_system(run / "students", settings(run))


def test_equal_plans_are_one_object_and_models_are_loaded_once(run: Path) -> None:
    parts = FreshParts(settings(run), run / "systems" / "abc")
    vote = build(VotePlan(name="v", members=(model(), model(), model("other name")), metric="accuracy"), parts)
    assert isinstance(vote, Vote)
    first, second, third = vote.members
    assert first is second
    assert isinstance(first, NamedModel) and isinstance(third, NamedModel)
    assert first.lm is third.lm
    assert (first.name, third.name) == ("a", "other name")


def test_weights_that_several_members_use_are_loaded_and_counted_once(run: Path) -> None:
    """The same model as a member that weighs choices, as one that writes, and as the base of two stacks."""
    one = model().model_copy(update={"identity": models.identity(str(run / "students" / "one"), settings(run))})
    samples = SamplesPlan(
        name="s", member=one.model_copy(update={"name": "writes"}), count=2, sampling=sampling(), metric="accuracy"
    )
    plan = VotePlan(
        name="v", members=(one, samples, stack(run, "0"), stack(run, "1"), model("b", "../../students/two")), metric="accuracy"
    )
    parts = FreshParts(settings(run), run / "systems" / "abc")
    vote = build(plan, parts)
    assert isinstance(vote, Vote)
    alone, _, first, second, _ = vote.members
    assert isinstance(alone, NamedModel) and isinstance(first, StackAnswerer) and isinstance(second, StackAnswerer)
    (base,), (again,) = first.bases.values(), second.bases.values()
    assert base.lm is again.lm is alone.lm
    adapters = base.bank.parameter_count() + again.bank.parameter_count()
    found = vote.footprint()
    assert found.parameters == 2 * alone.lm.parameter_count() + adapters
    assert found.weights_bytes == 4 * found.parameters
    texts = [[one.text for one in member.answer(QUESTIONS)] for member in (alone, first, second)]
    places = [run / "stacks" / name for name in "01"]
    undisturbed = NamedModel(one, tiny.load(run / "students" / "one"), parts.progress).answer(QUESTIONS)
    assert texts[0] == [answer.text for answer in undisturbed]
    assert texts[1:] == [[one.text for one in load_stack(place, settings(run)).answer(QUESTIONS)] for place in places]


def stack(run: Path, name: str) -> StackPlan:
    """A stack of two steps over the first student, whose identity is what `models` tells of its folder."""
    base = run / "students" / "one"
    identity, lm = models.identity(str(base), settings(run)), tiny.load(base)
    steps = []
    for number, step in enumerate(PRESETS["two_steps"]):
        adapter = changed(fresh(lm, 4, number), seed=10 * int(name) + number)
        save_adapter(adapter, run / "adapters" / f"{name}-{number}", base=str(base), base_identity=identity)
        steps.append({"base": str(base), "adapter": f"../../adapters/{name}-{number}", "step": step.name})
    chain = [step.model_copy(update={"max_tokens": 3}).model_dump(mode="json") for step in PRESETS["two_steps"]]
    kept = {"name": f"stack {name}", "chain": chain, "lists_choices": True, "share_prompt": False, "shorten": True}
    kept |= {
        "scoring": "sum",
        "precision": "float32",
        "data": "",
        "stack": {},
        "steps": steps,
        "task": None,
        "seed": 0,
        "notes": [],
    }
    write_json(run / "stacks" / name / "stack.json", kept)
    return StackPlan(name=f"stack {name}", folder=f"../../stacks/{name}", identity=name)


def changed(adapter: Adapter, seed: int) -> Adapter:
    """An adapter whose up matrices are no longer zero."""
    draw = torch.Generator().manual_seed(seed)
    weights = {name: (down, torch.randn(up.shape, generator=draw)) for name, (down, up) in adapter.weights.items()}
    return replace(adapter, weights=weights)


def test_a_model_writes_in_its_plans_arithmetic_and_what_it_writes_is_told_apart(run: Path, monkeypatch) -> None:
    seen, plain = [], torch.autocast

    def autocast(*given, enabled: bool, **rest):
        seen.append(enabled)
        return plain(*given, enabled=enabled, **rest)

    monkeypatch.setattr(torch, "autocast", autocast)
    revisions = {}
    for precision in ("float32", "bf16"):
        plan = model().model_copy(update={"precision": precision})
        fresh_parts = FreshParts(settings(run), run / "systems" / "abc")
        late = _Late(SimpleNamespace(model=lambda plan: tiny.load(run / "students" / "one")), plan)
        speaker = fresh_parts.speaker(plan)
        for writer in (speaker.writer, late):
            seen.clear()
            assert len(list(writer.write([Request("m", "", "Where is my card?", Sampling(2))]))) == 1
            assert set(seen) == {precision == "bf16"}
        revisions[precision] = speaker.revision
    assert revisions == {"float32": "", "bf16": "bf16"}


def test_a_server_that_answers_and_writes_is_counted_once(run: Path) -> None:
    teacher = RemoteTeacher(name="far", model="m", url="http://127.0.0.1:9/v1", parameters=70)
    far = RemotePlan(name="far", teacher=teacher, max_new_tokens=8)
    samples = SamplesPlan(name="s", member=far, count=3, sampling=sampling(), metric="accuracy")
    plan = VotePlan(name="v", members=(far, samples), metric="accuracy")
    for parts in (FreshParts(settings(run), run), BenchParts(NO_BENCH)):
        found = build(plan, parts).footprint()
        assert (found.parameters, found.parameters_per_answer) == (70, 4 * 70)


@pytest.mark.parametrize(
    "makes", [lambda run: FreshParts(settings(run), run / "systems" / "abc"), lambda run: BenchParts(NO_BENCH)]
)
def test_a_model_that_speaks_twice_is_one_speaker(run: Path, makes: Callable[[Path], Parts]) -> None:
    parts = makes(run)
    teacher = RemoteTeacher(name="far", model="m", url="http://127.0.0.1:9/v1", parameters=70)
    far = RemotePlan(name="far", teacher=teacher, max_new_tokens=8)
    plan = DebatePlan(
        name="d", members=(far, far), rounds=1, template="{question} {others}", sampling=sampling(), metric="accuracy"
    )
    found = build(plan, parts).footprint()
    assert (found.parameters, found.parameters_per_answer) == (70, 4 * 70)


def test_a_broken_system_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "system.json").write_text('{"system": {"kind": "choir"}}')
    with pytest.raises(ModelUnavailable, match=r"system.json describes no system .* `underdog find` on the task writes it anew"):
        open_system(tmp_path, settings(tmp_path))


def test_a_plan_survives_its_file() -> None:
    for plan in (cascade(), SamplesPlan(name="s", member=model(), count=2, sampling=sampling(), metric="exact")):
        file = SystemFile(system=plan)
        assert SystemFile.model_validate_json(file.model_dump_json()) == file
    assert [leaf.name for leaf in leaves(cascade())] == ["a", "b"]
    assert not writes(cascade())
    assert writes(SamplesPlan(name="s", member=model(), count=2, sampling=sampling(), metric="exact"))


def test_a_capped_server_is_not_asked_without_a_store_that_counts(run: Path) -> None:
    prices = {"usd_per_million_input": 1.0, "usd_per_million_output": 1.0}
    teacher = RemoteTeacher.model_validate(
        {"name": "far", "model": "m", "url": "http://127.0.0.1:9/v1", "cap_usd": 1.0, "prices": prices}
    )
    plan = RemotePlan(name="far", teacher=teacher, max_new_tokens=8)
    with pytest.raises(UnderdogError, match="'far' has a cap on spending, which is reckoned in a task's knowledge store"):
        FreshParts(settings(run), run).answerer(plan)
    assert not cost.is_measurable(plan)
    assert cost.is_measurable(cascade())


def test_the_whole_chain_is_measured_in_a_fresh_process(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "PROCESSES", 1)
    monkeypatch.setenv("PYTHONPATH", str(Path(single_cost.__file__).parents[2]))
    found = cost.measure_system(cascade(), QUESTIONS, run / "systems" / "abc", settings(run))
    parameters = tiny.load(run / "students" / "one").parameter_count()
    assert found.parameters == 2 * parameters
    assert found.items == len(QUESTIONS)
    assert 0 < found.latency_p50_s.median <= found.latency_p95_s.median
    assert found.peak_memory_bytes.median > found.libraries_bytes > 0


def test_writing_systems_are_measured_on_few_questions(run: Path) -> None:
    plan = SamplesPlan(name="s", member=model(), count=2, sampling=sampling(), metric="accuracy")
    request = cost.request_for(plan, QUESTIONS, run / "systems" / "abc", settings(run))
    assert len(request["questions"]) == cost.WRITING_ITEMS
    found = cost.measure(request)
    assert found["rates"].keys() == {8}
