"""What a report shows of several models that answer as one: how they were set, how sure they were, how often they agree."""

from html import escape
from typing import Any

from underdog.evaluation import words
from underdog.report.tables import NOTHING, Row, Table, capital, contender
from underdog.search.verdict import Curve, SystemFacts, Verdict

LINES = (("--accent", "circle"), ("--reference", "square"), ("--control", "diamond"))
"""Colour and mark of the first, second and third curve; further ones begin anew."""


def systems_table(verdict: Verdict) -> Table:
    """Each system: its members, how its threshold or weights were chosen, and how much of it an answer took."""
    columns = ("System", "Parameters an answer", "In memory", "Asked the big one, validation", "Asked the big one, test", "Below")
    note = (
        "Parameters an answer: how many were used on average over the test questions; by this systems are ranked among single "
        "models. Temperatures, weights and thresholds were chosen on validation."
    )
    return Table("Working together", columns, tuple(_row(verdict, facts) for facts in verdict.systems), note)


def _row(verdict: Verdict, facts: SystemFacts) -> Row:
    one = contender(verdict, facts.name)
    per_answer = one.parameters_per_answer if one else None
    cells = (
        facts.name,
        words.size(per_answer) if per_answer else NOTHING,
        words.size(one.parameters) if one and one.parameters else NOTHING,
        NOTHING if facts.calls_on_validation is None else f"{100 * facts.calls_on_validation:.0f} %",
        NOTHING if facts.calls is None else words.percent(facts.calls),
        NOTHING if facts.threshold is None else f"{facts.threshold:.3f}",
    )
    return Row(cells, "; ".join(_details(facts)), "winner" if facts.name == verdict.winner else "")


def _details(facts: SystemFacts) -> list[str]:
    found = [f"{facts.kind} of {', '.join(facts.members or [one.step for one in facts.steps])}"]
    if facts.target:
        found.append(f"threshold chosen for {facts.target}")
    if facts.weights:
        weights = zip(facts.members, facts.weights, strict=True)
        found.append("weights " + ", ".join(f"{name} {weight:.2f}" for name, weight in weights))
    if facts.marked:
        found.append(f"{facts.marked:,} test questions were left to the small model, because the big one gave no answer")
    return found


def calibration_table(verdict: Verdict) -> Table:
    """How far the members' probabilities could be believed, before and after their temperature was fitted."""
    measured = {one.member: one.calibration for facts in verdict.systems for one in facts.calibrations}
    rows = tuple(
        Row(
            (
                member,
                f"{one.temperature:.2f}",
                f"{one.fitted_on:,}",
                words.percent(one.ece_before),
                words.percent(one.ece_after),
                NOTHING if one.ece_by_chance is None else f"{100 * one.ece_by_chance:.1f} %",
                f"{100 * one.equal_width_before:.1f} %",
                f"{100 * one.equal_width_after:.1f} %",
            )
        )
        for member, one in measured.items()
    )
    note = (
        "Temperature above 1: the model was too sure of itself. The calibration error is the mean gap between how sure a model "
        "says it is and how often it is right, over 15 bins of equally many test questions; by chance: what a model that keeps "
        "its word would show after. The last two columns have bins of equal width. The temperature never changes an answer."
    )
    columns = (
        "Member",
        "Temperature",
        "Fitted on",
        "Error before",
        "Error after",
        "By chance",
        "Equal width, before",
        "Equal width, after",
    )
    return Table("How sure the members are", columns, rows, note)


def agreement_table(verdict: Verdict) -> Table:
    """How often members give the same answer."""
    rows = tuple(
        Row((one.first, one.second, words.percent(one.share), f"{one.share.n:,}"), group=facts.name)
        for facts in verdict.systems
        for one in facts.agreements
    )
    note = (
        "Share of questions with the same answer: on test, for cascades on validation, where both models were asked everything. "
        "Members that always agree have nothing to add to one another."
    )
    return Table("How often members agree", ("One", "Other", "Same answer", "Questions"), rows, note)


def steps_table(verdict: Verdict) -> Table:
    """How often the steps of stacks went wrong."""
    rows = tuple(
        Row((one.step, f"{one.texts:,}", f"{one.empty:,}", f"{one.at_limit:,}", f"{one.shortened:,}"), group=facts.name)
        for facts in verdict.systems
        for one in facts.steps
    )
    note = (
        "On test, of the first seed. At its limit: the step ran on until its longest text was full. Shortened: texts of earlier "
        "steps were cut, so that its prompt fitted."
    )
    return Table("What the steps of stacks did", ("Step", "Texts", "Wrote nothing", "At its limit", "Shortened"), rows, note)


def traces_table(verdict: Verdict) -> Table:
    """What every step wrote about some questions."""
    rows = tuple(
        Row((f"{facts.name}: {one.prompt}", " · ".join(f"{step}: {text or NOTHING}" for step, text in one.steps)))
        for facts in verdict.systems
        for one in facts.traces
    )
    return Table("Some questions, step by step", ("Question", "What the steps wrote"), rows, "The last step answers.")


def cascade_figure(verdict: Verdict) -> dict[str, Any] | None:
    """Return Plotly's data and layout of quality against the share of calls to the big model; None without cascades."""
    curves = [(facts, curve) for facts in verdict.systems for curve in facts.curves]
    if not curves:
        return None
    names = list(dict.fromkeys(facts.name for facts, _ in curves))
    axis = {"gridcolor": "--line", "linecolor": "--line", "zeroline": False, "tickcolor": "--line", "ticksuffix": " %"}
    metric = capital(words.METRIC_NAMES.get(verdict.metric, verdict.metric))
    return {
        "data": [
            *(_line(facts, curve, *LINES[names.index(facts.name) % len(LINES)]) for facts, curve in curves),
            *(_set(verdict, facts, *LINES[names.index(facts.name) % len(LINES)]) for facts in _cascades(verdict)),
        ],
        "layout": {
            "xaxis": axis
            | {"range": [-3, 103], "showline": True, "ticks": "outside", "title": _title("Questions sent on, share")},
            "yaxis": axis | {"title": _title(metric)},
            "font": {"color": "--text", "size": 13, "family": "--sans"},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "hoverlabel": {"bgcolor": "--panel", "bordercolor": "--line", "font": {"color": "--text"}, "align": "left"},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
            "margin": {"l": 68, "r": 16, "t": 16, "b": 58},
            "hovermode": "closest",
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "--control", "activecolor": "--text"},
            "dragmode": False,
        },
    }


def _title(text: str) -> dict[str, Any]:
    return {"text": text, "standoff": 12, "font": {"size": 13, "color": "--muted"}}


def _cascades(verdict: Verdict) -> list[SystemFacts]:
    return [facts for facts in verdict.systems if facts.curves and facts.calls is not None]


def _line(facts: SystemFacts, curve: Curve, color: str, symbol: str) -> dict[str, Any]:
    points = curve.points
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": f"{escape(facts.name)}, {curve.part}",
        "x": [round(100 * one.calls, 4) for one in points],
        "y": [round(100 * one.quality.mean, 4) for one in points],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [round(100 * (one.quality.high - one.quality.mean), 4) for one in points],
            "arrayminus": [round(100 * (one.quality.mean - one.quality.low), 4) for one in points],
            "color": color,
            "thickness": 1,
            "width": 0,
        },
        "customdata": [
            f"<b>{escape(facts.name)}</b>, {curve.part}<br>{100 * one.calls:.0f} % sent on (less sure than {one.threshold:.3f})"
            f"<br>{words.percent(one.quality)}"
            for one in points
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "line": {"color": color, "width": 2, "dash": "solid" if curve.part == "test" else "dot"},
        "marker": {"color": color, "symbol": symbol, "size": 6},
    }


def _set(verdict: Verdict, facts: SystemFacts, color: str, symbol: str) -> dict[str, Any]:
    """Where the cascade was set, as measured on test."""
    one = contender(verdict, facts.name)
    assert one is not None and facts.calls is not None
    return {
        "type": "scatter",
        "mode": "markers",
        "name": f"{escape(facts.name)}, as set",
        "x": [round(100 * facts.calls.mean, 4)],
        "y": [round(100 * one.quality.mean, 4)],
        "customdata": [
            f"<b>{escape(facts.name)}</b>, as set on validation<br>{words.percent(facts.calls)} of test questions sent on<br>"
            f"{words.percent(one.quality)}"
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {"color": color, "symbol": f"{symbol}-open", "size": 16, "line": {"width": 3}},
    }
