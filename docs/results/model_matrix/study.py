"""Can models of at most 7B, put together, reach a 14B one? Recorded likelihoods of 64 models on 1,000 questions.

    UNDERDOG_DATA=... python docs/results/model_matrix/study.py          (a few minutes on one core)

Reads `model_matrix` in the folder UNDERDOG_DATA; writes results.json and README.md beside this script. Nothing is chosen on the
test items: members, weights, penalties and routers come from train; thresholds, and the method that counts, from validation.
"""

import gzip
import json
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import log_softmax

from underdog import runs
from underdog.evaluation import words
from underdog.evaluation.calibration import calibration, fit_temperature, scaled, top_confidence
from underdog.evaluation.statistics import Comparison, holm, mean_estimate, paired_difference
from underdog.systems.together.router import fit_router, opinion_features, route
from underdog.systems.together.threshold import at_most, cuts, within
from underdog.systems.together.weights import (
    choice_features,
    choice_log_probabilities,
    choose_ridge,
    combined,
    fit_weights,
    folds_of,
    greedy_selection,
    mean_of,
)

HERE = Path(__file__).parent
SEED = 0
SMALL_B = 7.0
BIG = "microsoft/Phi-3-medium-4k-instruct"
BEST = (3, 5, 7, 9, 15)
"""Sizes of a vote of the best that are tried."""
OUTER = 10
SHARES = np.linspace(0, 1, 11)
MARGIN = 0.01


@dataclass(frozen=True)
class Part:
    """Some items: log-probabilities normalised over the choices, [N, M, K]; the last member is the 14B model."""

    lp: np.ndarray
    gold: np.ndarray

    def __getitem__(self, items: Any) -> "Part":
        return Part(self.lp[items], self.gold[items])

    @property
    def small(self) -> np.ndarray:
        return self.lp[:, :-1]

    @property
    def big(self) -> np.ndarray:
        return self.lp[:, -1]

    def right(self) -> np.ndarray:
        """[N, M] whether each member is right."""
        return self.lp.argmax(axis=2) == self.gold[:, None]


@dataclass(frozen=True)
class Answered:
    """What a method answered to a part, and where the 14B model was asked."""

    choices: np.ndarray
    calls: float = 0.0
    """Share of items that the 14B model was asked about."""


@dataclass(frozen=True)
class Seen:
    """What a method may look at."""

    fit: Part
    choose: Part
    """For thresholds, and for choosing among methods."""


Predict = Callable[[Part], Answered]
Fit = Callable[[Seen], Predict]


def best_single(seen: Seen) -> Predict:
    member = best_members(seen.fit, seen.choose)[0]
    return lambda part: Answered(part.lp[:, member].argmax(axis=1))


def best_members(*parts: Part) -> np.ndarray:
    """Members of at most 7B, the most accurate on these items first."""
    right = np.concatenate([part.right() for part in parts])[:, :-1]
    return np.argsort(-right.mean(axis=0), kind="stable")


def fourteen(_: Seen) -> Predict:
    return lambda part: Answered(part.big.argmax(axis=1), 1.0)


def mean_vote(seen: Seen) -> Predict:
    shares = np.full(seen.fit.small.shape[1], 1 / seen.fit.small.shape[1])
    return lambda part: Answered(mean_of(part.small, shares).argmax(axis=1))


def counted(lp: np.ndarray) -> np.ndarray:
    """[N] choices with most voices among members [N, M, K]; of equal counts the one with the higher summed log-probability."""
    voices = np.eye(lp.shape[2])[lp.argmax(axis=2)].sum(axis=1)
    return (voices + 1e-6 * lp.sum(axis=1)).argmax(axis=1)


def majority(_: Seen) -> Predict:
    return lambda part: Answered(counted(part.small))


def likelihood(seen: Seen) -> Predict:
    return weighed(seen.fit, np.arange(seen.fit.small.shape[1]))


def weighed(fit: Part, members: np.ndarray) -> Predict:
    """Sum of log-probabilities, each member's calibrated."""
    heat = np.array([fit_temperature(fit.lp[:, member], fit.gold) for member in members])
    return lambda part: Answered(combined(part.lp[:, members], 1 / heat).argmax(axis=1))


def voices(fit: Part, members: np.ndarray) -> Predict:
    """One voice for each member; nothing is fitted but who they are."""
    del fit
    return lambda part: Answered(counted(part.lp[:, members]))


def of_the_best(vote: Callable[[Part, np.ndarray], Predict]) -> Fit:
    """A vote of the best members, their number by cross-validation."""

    def fitted(seen: Seen) -> Predict:
        def sized(size: int) -> Callable[[Part], Predict]:
            return lambda part: vote(part, best_members(part)[:size])

        return sized(max(BEST, key=lambda size: cross_validated(seen.fit, sized(size))))(seen.fit)

    return fitted


def cross_validated(part: Part, fit: Callable[[Part], Predict], folds: int = 5) -> float:
    """Share right on items left out of fitting."""
    right = 0
    for out in folds_of(len(part.gold), folds, SEED):
        kept = np.setdiff1d(np.arange(len(part.gold)), out)
        right += int((fit(part[kept])(part[out]).choices == part.gold[out]).sum())
    return right / len(part.gold)


def learned(*, nonnegative: bool = True, places: bool = False) -> Fit:
    """Weights of log-probabilities."""

    def fitted(seen: Seen) -> Predict:
        opinion = stacked(seen.fit, nonnegative=nonnegative, places=places)
        return lambda part: Answered(opinion(part).argmax(axis=1))

    return fitted


def stacked(fit: Part, *, nonnegative: bool = True, places: bool = False) -> Callable[[Part], np.ndarray]:
    """Log-probabilities [N, K] of members weighed by what fits train, with a penalty chosen by cross-validation there."""

    def features(part: Part) -> np.ndarray:
        return choice_features(part.small, places=places)

    held = fit.small.shape[1] if nonnegative else 0
    ridge = choose_ridge(features(fit), fit.gold, nonnegative=held, folds=5, seed=SEED)
    weights = fit_weights(features(fit), fit.gold, ridge, nonnegative=held)
    return lambda part: choice_log_probabilities(features(part), weights)


def greedy(seen: Seen) -> Predict:
    shares = greedy_selection(seen.fit.small, seen.fit.gold)
    return lambda part: Answered(mean_of(part.small, shares).argmax(axis=1))


def router(seen: Seen) -> Predict:
    """All are asked; whose answer is taken depends on how sure each is."""

    def features(part: Part) -> np.ndarray:
        return np.stack([opinion_features(part.small[:, member]) for member in range(part.small.shape[1])], axis=1)

    return routed(seen.fit, features)


def gate(seen: Seen) -> Predict:
    """One is asked first; its opinion decides who answers, itself perhaps."""
    first, members = best_members(seen.fit)[0], seen.fit.small.shape[1]

    def features(part: Part) -> np.ndarray:
        letters = np.eye(part.lp.shape[2])[part.lp[:, first].argmax(axis=1)]
        opinion = np.concatenate([letters, opinion_features(part.lp[:, first])], axis=1)
        return np.repeat(opinion[:, None], members, axis=1)

    return routed(seen.fit, features)


def routed(fit: Part, features: Callable[[Part], np.ndarray]) -> Predict:
    weights = fit_router(features(fit), fit.right()[:, :-1])

    def predict(part: Part) -> Answered:
        member = route(features(part), weights)
        return Answered(part.small.argmax(axis=2)[np.arange(len(member)), member])

    return predict


def single_opinion(fit: Part) -> Callable[[Part], np.ndarray]:
    """The best single model of at most 7B, calibrated."""
    member = best_members(fit)[0]
    heat = fit_temperature(fit.lp[:, member], fit.gold)
    return lambda part: scaled(part.lp[:, member], heat)


def cascade(opinion_of: Callable[[Part], Callable[[Part], np.ndarray]], calls: float | None = None) -> Fit:
    """Below a threshold of confidence the 14B model is asked: as often as keeps its quality on validation, or at most `calls`."""

    def fitted(seen: Seen) -> Predict:
        opinion, choose = opinion_of(seen.fit), seen.choose
        small, big = opinion(choose).argmax(axis=1) == choose.gold, choose.big.argmax(axis=1) == choose.gold
        curve = cuts(top_confidence(opinion(choose)), lambda asked: float(np.where(asked, big, small).mean()))
        cut = within(curve, float(big.mean()), MARGIN) if calls is None else at_most(curve, calls)

        def predict(part: Part) -> Answered:
            values = opinion(part)
            asked = top_confidence(values) < cut.threshold
            return Answered(np.where(asked, part.big.argmax(axis=1), values.argmax(axis=1)), float(asked.mean()))

        return predict

    return fitted


SINGLE, FOURTEEN = "best single model of at most 7B", "Phi-3-medium, 14B"
CHOSEN = "the best of these on validation"
METHODS: dict[str, Fit] = {
    SINGLE: best_single,
    FOURTEEN: fourteen,
    "mean of probabilities, unweighted": mean_vote,
    "vote, majority": majority,
    "vote, likelihood": likelihood,
    "vote of the best, majority": of_the_best(voices),
    "vote of the best, likelihood": of_the_best(weighed),
    "learned weights, not negative": learned(),
    "learned weights, any sign": learned(nonnegative=False),
    "learned weights and letters": learned(places=True),
    "greedy ensemble selection": greedy,
    "router, all asked": router,
    "router, one asked first": gate,
    "cascade: best single → 14B, within 1 point": cascade(single_opinion),
    "cascade: best single → 14B, 40 % of calls": cascade(single_opinion, 0.4),
    "cascade: learned weights → 14B, within 1 point": cascade(stacked),
    "cascade: learned weights → 14B, 40 % of calls": cascade(stacked, 0.4),
}
CASCADE = "cascade: learned weights → 14B, 40 % of calls"
COMBINED = [name for name in METHODS if name not in (SINGLE, FOURTEEN) and not name.startswith("cascade")]


def read(folder: Path) -> tuple[dict[str, Part], list[str]]:
    """All parts with the members of at most 7B and, last, the 14B model; and their names."""
    described = json.loads((folder / "models.json").read_text(encoding="utf-8"))
    places = [place for place, one in enumerate(described) if one["size_b"] <= SMALL_B]
    places.append(next(place for place, one in enumerate(described) if one["model"] == BIG))
    parts = {}
    for name in ("train", "valid", "test"):
        with gzip.open(folder / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        lp = log_softmax(np.array([row["lp"] for row in rows])[:, places], axis=2)
        parts[name] = Part(lp, np.array([row["answer"] for row in rows]))
    return parts, [described[place]["model"] for place in places]


def on_test(parts: dict[str, Part]) -> tuple[dict[str, Answered], str, dict[str, float]]:
    """Fitted on train, chosen on validation, answered on test; the method chosen; and the validation qualities."""
    predicting = {name: fit(Seen(parts["train"], parts["valid"])) for name, fit in METHODS.items()}
    valid = {name: float((predict(parts["valid"]).choices == parts["valid"].gold).mean()) for name, predict in predicting.items()}
    answered = {name: predict(parts["test"]) for name, predict in predicting.items()}
    return answered, _best(predicting, parts["valid"]), valid


def _best(predicting: dict[str, Predict], choose: Part) -> str:
    """The combination of small models with most right answers on these items."""
    return max(COMBINED, key=lambda name: int((predicting[name](choose).choices == choose.gold).sum()))


def nested(part: Part) -> dict[str, Answered]:
    """Every item answered by what was fitted and chosen without its fold."""
    choices = {name: np.empty(len(part.gold), dtype=int) for name in [*METHODS, CHOSEN]}
    calls = dict.fromkeys(choices, 0.0)
    for number, out in enumerate(folds_of(len(part.gold), OUTER, SEED)):
        sys.stderr.write(f"fold {number + 1} of {OUTER}\n")
        kept = np.random.default_rng([SEED, number]).permutation(np.setdiff1d(np.arange(len(part.gold)), out))
        seen = Seen(part[kept[len(kept) // 4 :]], part[kept[: len(kept) // 4]])
        predicting = {name: method(seen) for name, method in METHODS.items()}
        best = _best(predicting, seen.choose)
        for name, predict in [*predicting.items(), (CHOSEN, predicting[best])]:
            answered = predict(part[out])
            choices[name][out] = answered.choices
            calls[name] += answered.calls * len(out) / len(part.gold)
    return {name: Answered(choices[name], calls[name]) for name in choices}


def table(answered: dict[str, Answered], gold: np.ndarray) -> dict[str, Any]:
    """Quality, and paired differences to the 14B model and to the best single small one, p-values corrected by Holm."""
    right = {name: (one.choices == gold).astype(float) for name, one in answered.items()}
    rows = {name: {"quality": mean_estimate(right[name], seed=SEED), "calls": one.calls} for name, one in answered.items()}
    for to in (FOURTEEN, SINGLE):
        others = [name for name in answered if name != to]
        compared = [paired_difference(right[name], right[to], seed=SEED) for name in others]
        for name, comparison, p in zip(others, compared, holm([one.p_value for one in compared]), strict=True):
            rows[name][f"versus {to}"] = comparison.model_copy(update={"p_holm": p})
    return rows


def curves(parts: dict[str, Part]) -> dict[str, list[dict[str, Any]]]:
    """Quality on test against the share of calls, the least sure questions first: shown, not chosen from."""
    found = {}
    test = parts["test"]
    big = (test.big.argmax(axis=1) == test.gold).astype(float)
    for name, opinion_of in (("best single", single_opinion), ("learned weights", stacked)):
        values = opinion_of(parts["train"])(test)
        small, order = (values.argmax(axis=1) == test.gold).astype(float), np.argsort(top_confidence(values), kind="stable")
        points = []
        for share in SHARES:
            right = small.copy()
            asked = order[: round(share * len(order))]
            right[asked] = big[asked]
            difference = paired_difference(right, big, seed=SEED)
            points.append({"share": float(share), "quality": mean_estimate(right, seed=SEED), "versus 14B": difference})
        found[name] = points
    return found


def plain(value: Any) -> Any:
    """For JSON."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


NESTED = (
    f"200 items give ±6 points. Here every one of 800 items is answered by what was fitted without its fold: {OUTER} outer "
    "folds, of the rest three quarters to fit on and a quarter to choose on, everything chosen anew each time. Figures are of "
    "methods, not of one fitted system; the intervals are over items, and leave out that the folds share training items. Where "
    "the two views differ, as they do on the 14B model itself, that is the doubt of 200 items, seen."
)


def page(results: dict[str, Any], views: dict[str, dict[str, Any]], curve: dict[str, list[dict[str, Any]]]) -> str:
    """README.md."""
    lines = [
        "# Do models of at most 7B, put together, reach a 14B one?",
        "",
        results["sentence"],
        "",
        f"{results['members']} models of at most 7B and one of 14B ({BIG}), their recorded likelihoods of A–D on 1,000 "
        "multiple-choice items (train 600, validation 200, test 200). The best single small model on everything but test is "
        f"{results['best_single']}.",
        "",
        "## On the 200 test items",
        "",
        "Fitted on train, hyperparameters by cross-validation there; thresholds chosen on validation. Differences are paired, in "
        "points; p is McNemar's exact one, corrected by Holm over the column. On validation the best combination was "
        f"“{results['chosen']}” ({100 * results['validation'][results['chosen']]:.1f} % there).",
        "",
        *_rows(views["test"]),
        "",
        "## On the 800 items of train and validation, nested",
        "",
        NESTED,
        "",
        *_rows(views["nested"]),
        "",
        "## Quality against the share of calls to the 14B model, test items",
        "",
        "The least sure questions are sent first. Shown as it is; the thresholds above were chosen on validation.",
        "",
        "| share of calls | best single → 14B | difference to 14B | learned weights → 14B | difference to 14B |",
        "|--:|--:|--:|--:|--:|",
        *(
            f"| {100 * one['share']:.0f} % | {words.percent(one['quality'])} | {_points(one['versus 14B'])} | "
            f"{words.percent(other['quality'])} | {_points(other['versus 14B'])} |"
            for one, other in zip(curve["best single"], curve["learned weights"], strict=True)
        ),
        "",
        "## Calibration",
        "",
        f"The best single model's temperature, fitted on train, is {results['calibration'].temperature:.2f}; on test its "
        f"expected calibration error (15 bins of equal mass) goes from {words.percent(results['calibration'].ece_before)} to "
        f"{words.percent(results['calibration'].ece_after)}; a model that keeps its word would show "
        f"{100 * results['calibration'].ece_by_chance:.1f} % by chance.",
        "",
        "## How it was done",
        "",
        f"- Command: `{results['command']}` with UNDERDOG_DATA set, seed {SEED}",
        f"- Commit: {results['commit']}",
        f"- Machine: {', '.join(f'{name} {value}' for name, value in results['machine'].items())}",
        f"- Versions: {', '.join(f'{name} {value}' for name, value in results['versions'].items())}",
        "- Every figure: [results.json](results.json)",
    ]
    return "\n".join(lines) + "\n"


def _rows(view: dict[str, Any]) -> list[str]:
    lines = ["| who | accuracy | 14B asked | against 14B | p | against best single | p |", "|:--|--:|--:|--:|--:|--:|--:|"]
    for name, row in view.items():
        asked = f"{100 * row['calls']:.0f} %" if row["calls"] or name.startswith("cascade") else "–"
        cells = [name, words.percent(row["quality"]), asked]
        for to in (FOURTEEN, SINGLE):
            compared: Comparison | None = row.get(f"versus {to}")
            cells += ["–", "–"] if compared is None else [_points(compared), _p(compared)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _p(compared: Comparison) -> str:
    p = compared.p_value if compared.p_holm is None else compared.p_holm
    return words.p_value(p).removeprefix("p ").removeprefix("= ")


def _points(compared: Comparison) -> str:
    return words.points(compared.difference).replace(" points", "")


def sentence(views: dict[str, dict[str, Any]], chosen: str) -> str:
    """What came of it, in words made from the figures."""
    test, folds, sent = views["test"][chosen], views["nested"][CHOSEN], views["nested"][CASCADE]
    big, big_folds = (words.percent(views[view][FOURTEEN]["quality"]) for view in ("test", "nested"))
    to_big = {name: _points(row[f"versus {FOURTEEN}"]) for name, row in (("test", test), ("folds", folds), ("sent", sent))}
    return (
        f"Combining models of at most 7B, the method chosen on validation reaches {words.percent(test['quality'])} on test, the "
        f"14B model {big}: {to_big['test']} points. Nested over the other 800 items, choosing the method anew in every fold "
        f"gives {words.percent(folds['quality'])} against {big_folds}: {to_big['folds']} points; against the best single small "
        f"model {_points(folds[f'versus {SINGLE}'])} points. A cascade does better: learned weights with the 14B model behind "
        f"them lie {to_big['sent']} points from the 14B model alone with {100 * sent['calls']:.0f} % of its calls (nested)."
    )


def main(folder: Path) -> None:
    parts, names = read(folder)
    answered, chosen, valid = on_test(parts)
    both = Part(*(np.concatenate([getattr(parts[name], field) for name in ("train", "valid")]) for field in ("lp", "gold")))
    views = {"test": table(answered, parts["test"].gold), "nested": table(nested(both), both.gold)}
    curve = curves(parts)
    member = best_members(parts["train"], parts["valid"])[0]
    heat = fit_temperature(parts["train"].lp[:, member], parts["train"].gold)
    test = parts["test"]
    results: dict[str, Any] = {
        "sentence": sentence(views, chosen),
        "chosen": chosen,
        "validation": valid,
        "members": len(names) - 1,
        "best_single": names[member],
        "calibration": calibration(heat, test.lp[:, member], test.gold, fitted_on=len(parts["train"].gold), seed=SEED),
        "command": "python docs/results/model_matrix/study.py",
        "seed": SEED,
        "commit": runs.commit(),
        "machine": runs.machine(),
        "versions": runs.versions(),
    }
    runs.write_json(HERE / "results.json", plain(results | {"views": views, "curves": curve}))
    runs.write_text(HERE / "README.md", page(results, views, curve))


def _folder(arguments: Sequence[str]) -> Path:
    if arguments:
        return Path(arguments[0])
    if "UNDERDOG_DATA" not in os.environ:
        raise SystemExit("Set UNDERDOG_DATA to the folder that holds model_matrix, or name model_matrix itself.")
    return Path(os.environ["UNDERDOG_DATA"]) / "model_matrix"


if __name__ == "__main__":
    main(_folder(sys.argv[1:]))
