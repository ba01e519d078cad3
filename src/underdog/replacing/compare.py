"""Train all ways, open the test part once, and put everything into figures."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underdog import models, runs
from underdog.progress import Progress
from underdog.replacing import learners, recordings
from underdog.replacing.compared import Compared, Entry, Figures, Found
from underdog.replacing.cost import ALONE, training_cost, writing_cost
from underdog.replacing.figures import Scores
from underdog.replacing.ready import Bench, get_ready
from underdog.replacing.registry import Registry
from underdog.replacing.spec import ReplaceSpec
from underdog.replacing.subjects import OwnText, TextSubject
from underdog.replacing.trials import Chosen, Trial, train_way
from underdog.replacing.verdict import verdict_of
from underdog.replacing.ways import Replaceable, Way
from underdog.runs import Run
from underdog.settings import Settings
from underdog.systems.replaceable import fingerprints
from underdog.systems.replaceable.pair import Pair


@dataclass(frozen=True, slots=True)
class Trained:
    """What `train` has made."""

    ways: Sequence[Chosen]
    small_models: Sequence[str]
    """Their names in the registry."""
    unit: str
    """Of the figures on validation."""


def train(
    spec: ReplaceSpec, run: Run, registry: Path, *, settings: Settings, progress: Progress, ways: Sequence[str] = ()
) -> Trained:
    """Train ways, by default the replaceable ones, and put the small models of these into the registry.

    Killed, it goes on where it was.
    """
    with run.session():
        bench = get_ready(spec, run, settings, progress)
        Registry.existing(registry, bench.known)  # another LLM's is refused now, not after the training
        wanted = [spec.way(name) for name in ways] or list(spec.replaceable) or list(spec.ways)
        learners.check(bench, wanted)
        found = [train_way(bench, way) for way in wanted]
        names = register(bench, registry, found)
        recordings.forget(bench)
        return Trained(found, names, bench.subject.unit)


def register(bench: Bench, folder: Path, found: Sequence[Chosen]) -> list[str]:
    """Put each replaceable way's best small model into the LLM's registry."""
    small = [one for one in found if isinstance(one.way, Replaceable)]
    if not small:
        return []
    registry = Registry.prepared(folder, bench.spec.llm, bench.known)
    names = []
    for one in small:
        learner = learners.load(bench, one.way, one.best.folder)
        assert isinstance(learner, Pair)
        names.append(f"{bench.spec.name}-{one.way.known_as}")
        said = {"name": bench.spec.name, "way": one.way.known_as, "on": bench.spec.on, bench.subject.unit: one.best.valid}
        registry.add(names[-1], learner.small, {**said, "steps": one.best.facts["steps"], "learning_rate": one.rate})
    return names


def compare(spec: ReplaceSpec, run: Run, registry: Path, *, settings: Settings, progress: Progress) -> Compared:
    """Train what is not trained yet, measure everything on the test part, and say what came of it."""
    with run.session():
        bench = get_ready(spec, run, settings, progress)
        Registry.existing(registry, bench.known)
        learners.check(bench, spec.ways)
        own = bench.own  # what is the matter with it is told now, not after the training
        chosen, costs = [], {}
        for way in spec.ways:
            chosen.append(train_way(bench, way))
            costs[way.known_as] = training_cost(bench, chosen[-1])  # while there is the recording that it learnt from
        names = register(bench, registry, chosen)
        recordings.forget(bench)
        writing = writing_cost(bench, chosen)
        llm_valid = _kept(bench, "valid", ALONE, lambda: bench.subject.score(bench.llm, "valid", progress, untrained=True))
        bench.subject.open_test(f"replace compare {spec.name}")
        found = Figures(bench, chosen, *_all_scores(bench, chosen, own))
        entries = (found.llm(llm_valid.mean, writing), *(found.entry(one, costs, writing) for one in chosen))
        return _compared(bench, found, entries, registry, names)


def _kept(bench: Bench, kind: str, name: str, measure: Any) -> Scores:
    """Scores of a part, measured once."""
    full = bench.name([kind, name, bench.spec.training.precision])
    kept = bench.run.read("scores", full)
    if kept is None:
        kept = measure().to_json()
        bench.run.keep("scores", full, kept)
    return Scores.from_json(kept)


def _all_scores(bench: Bench, chosen: Sequence[Chosen], own: OwnText | None) -> tuple[Found, Found]:
    """On test, and on the LLM's own domain where there is a text of it."""
    subject, progress = bench.subject, bench.progress
    where = None if own is None else own.identity
    alone = _kept(bench, "test", ALONE, lambda: subject.score(bench.llm, "test", progress, untrained=True))
    test: dict[str, list[Scores]] = {ALONE: [alone]}
    domain: dict[str, list[Scores]] = {}
    if own is not None:
        domain[ALONE] = [_kept(bench, f"own {where}", ALONE, lambda: own.score(bench.llm, progress))]
    for one in chosen:
        for trial in sorted(one.trials, key=lambda trial: trial.seed):  # ways are compared seed by seed
            learner = _Lazy(bench, one.way, trial)
            scores = _kept(bench, "test", trial.fingerprint, lambda loaded=learner: subject.score(loaded(), "test", progress))
            test.setdefault(one.way.known_as, []).append(scores)
            if own is not None:
                scores = _kept(bench, f"own {where}", trial.fingerprint, lambda loaded=learner: own.score(loaded(), progress))
                domain.setdefault(one.way.known_as, []).append(scores)
        models.forget()
    return test, domain


class _Lazy:
    """A trained way, loaded when it is first needed."""

    def __init__(self, bench: Bench, way: Way, trial: Trial) -> None:
        self._load = lambda: learners.load(bench, way, trial.folder)
        self._loaded: learners.Learner | None = None

    def __call__(self) -> learners.Learner:
        self._loaded = self._loaded or self._load()
        return self._loaded


def _compared(bench: Bench, found: Figures, entries: tuple[Entry, ...], registry: Path, names: list[str]) -> Compared:
    spec, subject = bench.spec, bench.subject
    pick = min if subject.less_is_better else max
    best = pick((one for one in entries if one.role == "replaceable"), key=lambda one: one.valid, default=None)
    after = fingerprints.of_llm(bench.llm)
    facts: dict[str, Any] = {
        "name": spec.name, "llm": spec.llm, "llm_parameters": bench.llm.parameter_count(), "on": spec.on,
        "unit": subject.unit, "less_is_better": subject.less_is_better, "entries": entries,
        "best": best and best.name, "best_versus_lora": best and best.versus_lora,
        "test_passages": len(found.test[ALONE].sizes), "left_out": found.left_out,
        "weights_before": bench.known.weights, "weights_after": after, "context": bench.context,
        "confidence": spec.evaluating.confidence, "registry": str(registry), "small_models": tuple(names), "spec": spec,
        "openings": tuple(bench.run.openings()), "notes": _notes(bench, entries), "seconds": bench.run.seconds,
        "command": runs.command(), "commit": runs.commit(), "versions": runs.versions(), "machine": runs.machine(),
        "finished": runs.now(),
    }  # fmt: skip
    return Compared(**facts, sentence=verdict_of(entries, best, subject.unit, bench.known.weights == after))


def _notes(bench: Bench, entries: Sequence[Entry]) -> tuple[str, ...]:
    """What one must know of how it was made."""
    notes = [f"{one.name}: LoRA of rank {one.rank}, {one.parameters:,} parameters that learn" for one in entries if one.rank]
    for one in entries:
        if one.train.get("recorded"):
            times = one.train["recorded"]
            notes.append(f"{one.name} learnt from a recording: the LLM read the training text {times} time{'s' * (times > 1)}")
        if left := one.train.get("left_out"):
            notes.append(f"{one.name} did not learn from {left:,} training items that are longer than its models' positions")
    if isinstance(bench.subject, TextSubject) and (part := bench.subject.corpus.report.parts["test"]).unknown:
        notes.append(
            f"{part.unknown:,} of the test part's {part.tokens:,} tokens stand for characters that the LLM's tokenizer does not "
            "know: predicting them is easier than predicting the text"
        )
    return (*notes, f"All ways read and were measured in windows of {bench.context} tokens.") if bench.spec.text else tuple(notes)
