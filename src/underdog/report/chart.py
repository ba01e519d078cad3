"""Quality against size: the report's interactive chart. Colours are names of the page's CSS variables, filled in by the page."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from underdog.evaluation import words
from underdog.evaluation.statistics import Estimate
from underdog.report.tables import capital, contender
from underdog.search.verdict import Contender, Trial, Verdict

Figure = dict[str, Any]

STYLES = {
    "winner": ("Winner", "--accent", "star", 19),
    "finalist": ("Finalists", "--accent", "circle", 12),
    "system": ("Working together", "--accent", "hexagon2", 13),
    "reference": ("References", "--reference", "square", 12),
    "control": ("Controls", "--control", "diamond", 10),
}


def figure(verdict: Verdict) -> Figure:
    """Return Plotly's data and layout. Sizes are in parameters on a logarithmic axis, qualities in per cent."""
    groups = {style: [one for one in verdict.contenders if one.size and style == _style(verdict, one)] for style in STYLES}
    traces = [_trials(verdict.trials)] if verdict.trials else []
    traces += [_points(style, group) for style, group in groups.items() if group]
    low, high = _quality_range(verdict)
    reference = contender(verdict, verdict.reference)
    assert reference is not None
    return {"data": traces, "layout": _layout(verdict, low, high, [*_band(reference), *_levels(verdict, high - low)])}


def _style(verdict: Verdict, one: Contender) -> str:
    return "winner" if one.name == verdict.winner else one.role


def _trials(trials: Sequence[Trial]) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "Tried, on validation",
        "x": [trial.parameters for trial in trials],
        "y": [_per_cent(trial.quality.mean) for trial in trials],
        "text": [
            f"<b>{escape(trial.label)}</b><br>validation {words.percent(trial.quality)}<br>"
            f"seed {trial.seed}, trained in {words.seconds(trial.train_seconds)}"
            for trial in trials
        ],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"color": "--trial", "size": 8, "opacity": 0.75, "line": {"width": 0}},
    }


def _points(style: str, contenders: Sequence[Contender]) -> Figure:
    name, color, symbol, size = STYLES[style]
    return {
        "type": "scatter",
        "mode": "markers" if style == "control" else "markers+text",
        "name": name,
        "x": [one.size for one in contenders],
        "y": [_per_cent(one.quality.mean) for one in contenders],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [_per_cent(one.quality.high - one.quality.mean) for one in contenders],
            "arrayminus": [_per_cent(one.quality.mean - one.quality.low) for one in contenders],
            "color": color,
            "thickness": 1.6,
            "width": 5,
        },
        "text": [escape(one.name) if style in ("reference", "system") else words.size(one.size or 0) for one in contenders],
        "textposition": "top left" if style == "reference" else "middle right",
        "textfont": {"color": color, "size": 13},
        "customdata": [f"<b>{escape(one.name)}</b><br>{_size(one)}<br>test {words.percent(one.quality)}" for one in contenders],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {"color": color, "symbol": symbol, "size": size, "line": {"width": 1.5, "color": "--page"}},
    }


def _size(one: Contender) -> str:
    if one.role != "system" or not one.parameters:
        return f"{words.size(one.size or 0)} parameters"
    return f"{words.size(one.size or 0)} parameters an answer, {words.size(one.parameters)} in memory"


def _band(reference: Contender) -> list[Figure]:
    """The reference's quality as a line across, with its interval as a band."""
    across = {"xref": "paper", "x0": 0, "x1": 1, "layer": "between"}
    low, mean, high = (_per_cent(value) for value in (reference.quality.low, reference.quality.mean, reference.quality.high))
    text = "" if reference.parameters else f"{escape(reference.name)} {mean:.1f} %"
    label = _label(text, "end", "--reference")
    return [
        across | {"type": "rect", "y0": low, "y1": high, "fillcolor": "--reference", "opacity": 0.14, "line": {"width": 0}},
        across
        | {
            "type": "line",
            "y0": mean,
            "y1": mean,
            "line": {"color": "--reference", "width": 1.5, "dash": "dash"},
            "label": label,
        },
    ]


def _levels(verdict: Verdict, span: float) -> list[Figure]:
    """Dotted lines for controls without a size, such as chance; labels that would overlap are joined."""
    unsized = sorted(
        (one for one in verdict.contenders if one.role == "control" and not one.parameters), key=lambda one: one.quality.mean
    )
    shapes: list[Figure] = []
    for one in unsized:
        level = _per_cent(one.quality.mean)
        text = f"{one.name} {level:.1f} %"
        if shapes and level - shapes[-1]["y0"] < 0.05 * span:
            text = f"{shapes[-1]['label'].pop('text')} · {escape(text)}"
            shapes[-1].pop("label")
        line = {"color": "--control", "width": 1.2, "dash": "dot"}
        label = _label(text, "start", "--muted")
        shapes.append(
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": level,
                "y1": level,
                "layer": "between",
                "line": line,
                "label": label,
            }
        )
    return shapes


def _label(text: str, where: str, color: str) -> Figure:
    return {"text": text, "textposition": where, "font": {"size": 12, "color": color}, "yanchor": "bottom", "padding": 3}


def _layout(verdict: Verdict, low: float, high: float, shapes: list[Figure]) -> Figure:
    sizes = [one.size for one in verdict.contenders if one.size] + [one.parameters for one in verdict.trials] or [1_000_000]
    left, right = min(sizes) / 1.7, max(sizes) * 1.7
    ticks = _ticks(left, right)
    metric = capital(words.METRIC_NAMES.get(verdict.metric, verdict.metric))
    axis = {"gridcolor": "--line", "linecolor": "--line", "zeroline": False, "tickcolor": "--line", "fixedrange": False}
    return {
        "xaxis": axis
        | {
            "type": "log",
            "range": [math.log10(left), math.log10(right)],
            "tickvals": ticks,
            "ticktext": [words.size(tick) for tick in ticks],
            "title": {"text": "Parameters (logarithmic)", "standoff": 12, "font": {"size": 13, "color": "--muted"}},
            "showgrid": False,
            "showline": True,
            "ticks": "outside",
        },
        "yaxis": axis
        | {
            "range": [low, high],
            "ticksuffix": " %",
            "title": {"text": metric, "standoff": 8, "font": {"size": 13, "color": "--muted"}},
        },
        "font": {"color": "--text", "size": 13, "family": "--sans"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "hoverlabel": {"bgcolor": "--panel", "bordercolor": "--line", "font": {"color": "--text"}, "align": "left"},
        "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0, "itemsizing": "trace"},
        "margin": {"l": 68, "r": 16, "t": 16, "b": 58},
        "shapes": shapes,
        "hovermode": "closest",
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "--control", "activecolor": "--text"},
        "dragmode": False,
    }


def _quality_range(verdict: Verdict) -> tuple[float, float]:
    """The axis in per cent: everything with its interval, and some air."""
    estimates: list[Estimate] = [one.quality for one in verdict.contenders] + [trial.quality for trial in verdict.trials]
    low, high = min(one.low for one in estimates), max(one.high for one in estimates)
    air = max(0.08 * (high - low), 0.01)
    return _per_cent(max(low - air, -0.03)), _per_cent(min(high + air, 1.03))


def _ticks(left: float, right: float) -> list[int]:
    """Round sizes within the axis: 1, 2 and 5 of each power of ten, or powers of ten alone where there are many."""
    powers = range(math.floor(math.log10(left)), math.ceil(math.log10(right)) + 1)
    steps = (1, 2, 5) if math.log10(right / left) < 3 else (1,)
    return [step * 10**power for power in powers for step in steps if left <= step * 10**power <= right]


def _per_cent(share: float) -> float:
    return round(100 * share, 4)
