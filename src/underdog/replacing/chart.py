"""Figures of a comparison against the parameters that learn. Colours name the page's CSS variables."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from underdog.evaluation import words
from underdog.evaluation.statistics import Estimate
from underdog.replacing.compared import Compared, Entry
from underdog.replacing.labels import Mark, places
from underdog.replacing.verdict import BITS
from underdog.report.tables import capital

COLORS = {"llm": "--reference", "alone": "--control", "replaceable": "--accent", "adapted": "--plain"}
NAMES = {
    "llm": "The LLM alone",
    "alone": "Small model alone",
    "replaceable": "Replaceable, LLM untouched",
    "adapted": "The LLM itself adapted",
}
SYMBOLS = {"llm": "square", "alone": "diamond", "replaceable": "star", "adapted": "circle"}


def figure_cell(estimate: Estimate, unit: str) -> str:
    """A figure with its interval in brackets."""
    if unit != BITS:
        return words.percent(estimate)
    return f"{estimate.mean:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def chart(found: Compared) -> dict[str, Any]:
    """Plotly's data and layout: the figure against the parameters that learn."""
    scale = 1.0 if found.unit == BITS else 100.0
    learning = [one.parameters for one in found.entries if one.parameters]
    left, right = min(learning) / 2, max(learning) * 2
    llm = found.entry("llm")
    assert llm is not None
    bottom, top = _bounds(found.entries, scale)
    beside = _beside(found.entries, scale, (math.log10(left), math.log10(right)), (bottom, top))
    traces = [
        _marks(role, [one for one in found.entries if one.role == role], scale, found.unit, beside) for role in list(NAMES)[1:]
    ]
    axis = {"gridcolor": "--line", "linecolor": "--line", "zeroline": False, "tickcolor": "--line", "fixedrange": True}
    band = {"xref": "paper", "x0": 0, "x1": 1, "layer": "between"}
    ticks = [step * 10**power for power in range(2, 12) for step in (1, 3) if left <= step * 10**power <= right]
    title = {"font": {"size": 13, "color": "--muted"}}
    return {
        "data": [trace for trace in traces if trace["x"]],
        "layout": {
            "xaxis": axis | {
                "type": "log", "range": [math.log10(left), math.log10(right)], "tickvals": ticks,
                "ticktext": [words.size(tick) for tick in ticks], "showgrid": False, "showline": True, "ticks": "outside",
                "title": title | {"text": "Parameters that learn (logarithmic)", "standoff": 12},
            },
            "yaxis": axis | {
                "title": title | {"text": capital(found.unit), "standoff": 8}, "range": [bottom, top],
                "ticksuffix": "" if scale == 1 else " %",
            },
            "shapes": [
                band | {"type": "rect", "y0": scale * llm.quality.low, "y1": scale * llm.quality.high, "fillcolor": "--reference",
                        "opacity": 0.14, "line": {"width": 0}},
                band | {"type": "line", "y0": scale * llm.quality.mean, "y1": scale * llm.quality.mean,
                        "line": {"color": "--reference", "width": 1.5, "dash": "dash"},
                        "label": {"text": "LLM alone", "textposition": "end", "font": {"size": 12, "color": "--reference"},
                                  "yanchor": "bottom", "padding": 3}},
            ],
            "font": {"color": "--text", "size": 13, "family": "--sans"},
            "paper_bgcolor": "rgba(0,0,0,0)", "plot_bgcolor": "rgba(0,0,0,0)",
            "hoverlabel": {"bgcolor": "--panel", "bordercolor": "--line", "font": {"color": "--text"}, "align": "left"},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0}, "hovermode": "closest",
            "margin": {"l": 68, "r": 16, "t": 16, "b": 58}, "dragmode": False,
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "--control", "activecolor": "--text"},
        },
    }  # fmt: skip


def _bounds(entries: Sequence[Entry], scale: float) -> tuple[float, float]:
    """Of the figures' axis: all intervals, and a little more."""
    low = min(scale * one.quality.low for one in entries)
    high = max(scale * one.quality.high for one in entries)
    room = 0.06 * (high - low) or 0.5
    return round(low - room, 5), round(high + room, 5)


def _beside(entries: Sequence[Entry], scale: float, x: tuple[float, float], y: tuple[float, float]) -> dict[str, str]:
    """The place of each name."""

    def share(value: float, bounds: tuple[float, float]) -> float:
        return (value - bounds[0]) / (bounds[1] - bounds[0])

    shown = [one for one in entries if one.parameters]
    marks = [
        Mark(
            one.name,
            share(math.log10(one.parameters), x),
            *(share(scale * value, y) for value in (one.quality.mean, one.quality.low, one.quality.high)),
        )
        for one in shown
    ]
    return dict(zip([one.name for one in shown], places(marks), strict=True))


def _marks(role: str, entries: list[Entry], scale: float, unit: str, beside: dict[str, str]) -> dict[str, Any]:
    color = COLORS[role]
    return {
        "type": "scatter", "mode": "markers+text", "cliponaxis": False, "name": NAMES[role],
        "x": [one.parameters for one in entries],
        "y": [round(scale * one.quality.mean, 5) for one in entries],
        "error_y": {
            "type": "data", "symmetric": False, "color": color, "thickness": 1.6, "width": 5,
            "array": [round(scale * (one.quality.high - one.quality.mean), 5) for one in entries],
            "arrayminus": [round(scale * (one.quality.mean - one.quality.low), 5) for one in entries],
        },
        "text": [escape(one.name) for one in entries], "textposition": [beside[one.name] for one in entries],
        "textfont": {"color": color, "size": 13},
        "customdata": [
            f"<b>{escape(one.name)}</b><br>{words.size(one.parameters)} learn<br>{figure_cell(one.quality, unit)}"
            for one in entries
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {"color": color, "symbol": SYMBOLS[role], "size": 13, "line": {"width": 1.5, "color": "--page"}},
    }  # fmt: skip
