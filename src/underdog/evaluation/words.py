"""Numbers in words: the same everywhere, in the verdict's sentence, the report and the terminal."""

from typing import Literal, Protocol

from underdog.evaluation.cost import Cost, Spread
from underdog.evaluation.statistics import Comparison, Estimate
from underdog.task.spec import Goal

METRIC_NAMES = {
    "accuracy": "accuracy",
    "macro_f1": "macro-F1",
    "exact": "exact match",
    "f1": "F1",
    "numeric": "right numbers",
}

COUNTS = ((1e9, "B"), (1e6, "M"), (1e3, "K"), (1.0, ""))
BYTES = ((1e9, " GB"), (1e6, " MB"), (1e3, " kB"), (1.0, " B"))
TIMES = ((1.0, " s"), (1e-3, " ms"), (1e-6, " µs"))
PLAIN = ((1.0, ""),)

Units = tuple[tuple[float, str], ...]


class Measured(Protocol):
    """What a sentence needs to know of an answerer that was measured on the test set."""

    @property
    def name(self) -> str: ...
    @property
    def parameters(self) -> int | None: ...
    @property
    def size(self) -> int | None: ...
    @property
    def role(self) -> str: ...
    @property
    def quality(self) -> Estimate: ...
    @property
    def versus_reference(self) -> Comparison | None: ...
    @property
    def cost(self) -> Cost | None: ...


def percent(estimate: Estimate) -> str:
    """`85.3 % (84.0–86.5)`; without an interval where there is no doubt, as for chance."""
    if estimate.low == estimate.high:
        return f"{100 * estimate.mean:.1f} %"
    return f"{100 * estimate.mean:.1f} % ({100 * estimate.low:.1f}–{100 * estimate.high:.1f})"


def points(difference: Estimate) -> str:
    """`+69.5 points (67.8–71.2)`, and with signs where the interval is not all above 0: `−0.4 points (−1.2 to +0.4)`."""
    low, high = (f"{100 * bound:.1f}" for bound in (difference.low, difference.high))
    bounds = f"{low}–{high}" if difference.low > 0 else f"{signed(difference.low)} to {signed(difference.high)}"
    return f"{signed(difference.mean)} points ({bounds})"


def signed(share: float) -> str:
    """A difference of shares in points, with its sign: `+1.0`, `−0.4`, `0.0`."""
    text = f"{100 * share:+.1f}"
    return "0.0" if float(text) == 0 else text.replace("-", "−")


def p_value(p: float) -> str:
    """`p < 0.001`, `p = 0.031`, `p = 0.20`, `p = 1`."""
    if p < 0.001:
        return "p < 0.001"
    return f"p = {p:.2f}" if 0.095 <= p < 0.995 else f"p = {p:.2g}"


def comparison(compared: Comparison) -> str:
    """`difference +69.5 points (67.8–71.2), p < 0.001`, marked where it is unpaired or corrected."""
    marks = [] if compared.paired else ["unpaired"]
    if is_corrected(compared):
        marks.append("Holm")
    mark = f" ({', '.join(marks)})" if marks else ""
    p = compared.p_value if compared.p_holm is None else compared.p_holm
    return f"difference {points(compared.difference)}, {p_value(p)}{mark}"


def is_corrected(compared: Comparison) -> bool:
    """Whether the p-value was raised for the number of finalists; a single finalist's is not."""
    return compared.p_holm is not None and compared.p_holm != compared.p_value


def size(parameters: int) -> str:
    """`8.4M`, `135M`, `1.5B`, `515K`."""
    return quantity(float(parameters), COUNTS)


def memory(number_of_bytes: float) -> str:
    """`412 MB`, `1.3 GB`."""
    return quantity(float(number_of_bytes), BYTES)


def seconds(duration_s: float) -> str:
    """`850 µs`, `3.4 ms`, `12.3 s`, `5 min 12 s`, `1 h 20 min`."""
    if duration_s < 59.95:
        return quantity(duration_s, TIMES)
    minutes, rest = divmod(round(duration_s), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(round(duration_s / 60), 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def quantity(value: float, units: Units) -> str:
    """The value in the largest unit of which it has at least one, to about three digits."""
    scale, unit = _unit(value, units)
    return f"{_digits(value / scale)}{unit}"


def spread(measured: Spread, units: Units) -> str:
    """`412 MB (405–420)`: median and range, all in the median's unit."""
    scale, unit = _unit(measured.median, units)
    median, low, high = (_digits(value / scale) for value in (measured.median, measured.low, measured.high))
    return f"{median}{unit} ({low}–{high})"


def ratio(value: float, other: float, of: str) -> str:
    """How much of `other` a value is: `1/16 of the memory`, `62 % of the memory`, `the same memory`, `12× the speed`."""
    times = value / other
    if times >= 1.05:
        return f"{_digits(times)}× the {of}"
    if times > 0.95:
        return f"the same {of}"
    return f"{100 * times:.0f} % of the {of}" if times > 0.55 else f"1/{round(1 / times):,} of the {of}"


def savings(student: Measured, reference: Measured) -> list[str]:
    """What the student costs beside the reference, as far as both are known: parameters, memory, speed."""
    found = []
    if student.size and reference.parameters:
        of = "parameters an answer" if student.role == "system" else "parameters"
        found.append(ratio(student.size, reference.parameters, of))
    if student.cost and reference.cost:
        ours, theirs = student.cost, reference.cost
        found.append(ratio(ours.peak_memory_bytes.median, theirs.peak_memory_bytes.median, "memory"))
        found.append(ratio(ours.throughput_per_s.median, theirs.throughput_per_s.median, "speed"))
    return found


def goal_in_words(goal: Goal) -> str:
    """`beat the reference by more than 1.0 point, with 95 % confidence, over 3 seeds`."""
    if goal.within is not None:
        wish = f"come within {_some_points(goal.within)} of the reference"
    else:
        wish = "beat the reference" + (f" by more than {_some_points(goal.beat_by)}" if goal.beat_by else "")
    at_least = f" and reach at least {100 * goal.at_least:g} %" if goal.at_least else ""
    seeds = f"{goal.seeds} seeds" if goal.seeds > 1 else "one seed"
    return f"{wish}{at_least}, with {100 * goal.confidence:g} % confidence, over {seeds}"


def sentence(
    outcome: Literal["beats", "matches", "none"],
    *,
    metric: str,
    goal: Goal,
    reference: Measured,
    best: Measured | None,
    largest: int,
) -> str:
    """The verdict in one sentence.

    `best` is the winner or, where there is none, the candidate that came nearest on test; None where none was tested.
    `largest` is the number of parameters of the largest candidate that was tried.
    """
    known_as = f"{reference.name} ({size(reference.parameters)})" if reference.parameters else reference.name
    if outcome == "none":
        return _no_student(metric, goal, reference, known_as, best, largest)
    assert best is not None
    verb = "beat" if outcome == "beats" else "match"
    if best.parameters and best.role != "system":
        who = f"{size(best.parameters)} parameters {verb}"
    else:
        who = f"{_known(best)} {verb}{'s' if verb == 'beat' else 'es'}"
    saved = savings(best, reference)
    return f"{who} {known_as}: {_evidence(metric, best, reference)}{'; ' + ', '.join(saved) if saved else ''}."


def _no_student(metric: str, goal: Goal, reference: Measured, known_as: str, best: Measured | None, largest: int) -> str:
    verb = "beats" if goal.within is None else "matches"
    start = f"No candidate up to {size(largest)} parameters {verb} {known_as}"
    if best is None:
        name = METRIC_NAMES.get(metric, metric)
        return f"{start} with its {name} of {percent(reference.quality)}: none was promising on validation, so none was tested."
    of_one = f"{size(best.parameters)} parameters" if best.parameters and best.role != "system" else _known(best)
    who = f"the best, {of_one},"
    return f"{start}: {who} reached {_evidence(metric, best, reference)}; {_shortfall(goal, best)}."


def _known(one: Measured) -> str:
    """A name and, of a system, how much of it an answer takes."""
    if one.role != "system" or not one.parameters or not one.size:
        return one.name
    return f"{one.name} ({size(one.size)} parameters an answer, {size(one.parameters)} in memory)"


def _evidence(metric: str, best: Measured, reference: Measured) -> str:
    name = METRIC_NAMES.get(metric, metric)
    qualities = f"{name} {percent(best.quality)} against {percent(reference.quality)}"
    return f"{qualities}, {comparison(best.versus_reference)}" if best.versus_reference else qualities


def _shortfall(goal: Goal, best: Measured) -> str:
    """Why this is not enough: the measured gap, or the doubt, or both with the quality that must be reached besides."""
    reasons = []
    if best.versus_reference:
        difference = best.versus_reference.difference
        gap = goal.threshold - difference.mean
        if gap >= 0.0005:
            reasons.append(f"{_some_points(gap)} short of the goal")
        elif difference.low <= goal.threshold:
            reasons.append(f"this meets the goal, but not with {100 * goal.confidence:g} % confidence")
    if goal.at_least and best.quality.mean < goal.at_least:
        missing = max(goal.at_least - best.quality.mean, 0.001)
        reasons.append(f"{_some_points(missing)} below the {100 * goal.at_least:g} % asked for")
    return " and ".join(reasons) or f"not shown with {100 * goal.confidence:g} % confidence"


def _some_points(share: float) -> str:
    text = f"{100 * share:.1f}"
    return f"{text} point" if text == "1.0" else f"{text} points"


def _unit(value: float, units: Units) -> tuple[float, str]:
    """The largest unit of which the value has at least one when rounded to three digits, else the smallest."""
    return next(((scale, unit) for scale, unit in units if value >= 0.9995 * scale), units[-1])


def _digits(value: float) -> str:
    """`8.4`, `15.5`, `135`, `1,240`: one decimal below 100, without an idle `.0`."""
    if 0 < value < 0.95:
        return f"{value:.2g}"
    return f"{value:.1f}".removesuffix(".0") if value < 99.95 else f"{value:,.0f}"
