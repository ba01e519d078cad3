"""Ways compared: paired differences with their intervals, one line each. Colours name the page's CSS variables."""

import math
from html import escape
from typing import Any

from underdog.evaluation import words
from underdog.search.verdict import Contrast, Verdict

ROW_REM = 2.1
"""Height of one line."""
FAR = 8
"""A difference so many times the median one lies beyond the axis."""


def forest(verdict: Verdict) -> dict[str, Any] | None:
    """Return Plotly's data and layout, in points of the metric; None where there is nothing to compare."""
    if not verdict.contrasts:
        return None
    shown = list(reversed(verdict.contrasts))
    widest = _widest(shown)
    lines = list(range(len(shown)))
    title = {
        "text": "Difference in points: left of 0 the first is worse, right of it better",
        "font": {"size": 13, "color": "--muted"},
    }
    axis = {"gridcolor": "--line", "linecolor": "--line", "zeroline": False, "tickcolor": "--line", "fixedrange": True}
    return {
        "data": [_marks(shown, lines, widest)],
        "layout": {
            "xaxis": axis
            | {
                "range": [-widest, widest],
                "ticksuffix": " ",
                "showline": True,
                "ticks": "outside",
                "title": title,
            },
            "yaxis": axis
            | {
                "tickvals": lines,
                "ticktext": [escape(label(one, several_sizes(verdict))) for one in shown],
                "range": [-0.7, len(shown) - 0.3],
                "showgrid": False,
                "automargin": True,
            },
            "shapes": [
                {"type": "line", "x0": 0, "x1": 0, "yref": "paper", "y0": 0, "y1": 1, "layer": "below",
                 "line": {"color": "--reference", "width": 1.5, "dash": "dash"}}
            ],
            "font": {"color": "--text", "size": 13, "family": "--sans"},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "hoverlabel": {"bgcolor": "--panel", "bordercolor": "--line", "font": {"color": "--text"}, "align": "left"},
            "margin": {"l": 8, "r": 16, "t": 8, "b": 58},
            "showlegend": False,
            "hovermode": "closest",
            "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": "--control", "activecolor": "--text"},
            "dragmode": False,
        },
    }  # fmt: skip


def _widest(shown: list[Contrast]) -> float:
    """Half the axis in points: wide enough for all whose difference is not many times that of the others."""
    bounds = [(one.comparison.difference.low, one.comparison.difference.high) for one in shown]
    reach = sorted(100 * max(map(abs, pair)) for pair in bounds if any(pair)) or [1.0]  # alike in every answer: any axis will do
    within = [each for each in reach if each <= FAR * reach[(len(reach) - 1) // 2]]
    return 1.08 * within[-1]


def _marks(shown: list[Contrast], lines: list[int], widest: float) -> dict[str, Any]:
    """A square with its interval; what lies beyond the axis is an arrowhead at its edge, with its value beside it."""
    differences = [one.comparison.difference for one in shown]
    means = [round(100 * one.mean, 4) for one in differences]
    beyond = [abs(mean) > widest for mean in means]
    edge = 0.97 * widest
    symbols = [
        ("triangle-left" if mean < 0 else "triangle-right") if far else "square" for mean, far in zip(means, beyond, strict=True)
    ]
    return {
        "type": "scatter",
        "mode": "markers+text",
        "x": [math.copysign(edge, mean) if far else mean for mean, far in zip(means, beyond, strict=True)],
        "text": [f"{words.signed(one.mean)} points" if far else "" for one, far in zip(differences, beyond, strict=True)],
        "textposition": ["middle right" if mean < 0 else "middle left" for mean in means],
        "textfont": {"color": "--muted", "size": 12},
        "y": lines,
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [0 if far else round(100 * (one.high - one.mean), 4) for one, far in zip(differences, beyond, strict=True)],
            "arrayminus": [
                0 if far else round(100 * (one.mean - one.low), 4) for one, far in zip(differences, beyond, strict=True)
            ],
            "color": "--accent",
            "thickness": 1.8,
            "width": 5,
        },
        "customdata": [
            f"<b>{escape(one.way)}</b><br>minus {escape(one.against)}<br>{words.points(one.comparison.difference)}, "
            f"{escape(words.p_value(_p(one)))}"
            for one in shown
        ],
        "hovertemplate": "%{customdata}<extra></extra>",
        "marker": {"color": "--accent", "symbol": symbols, "size": 11, "line": {"width": 1.5, "color": "--page"}},
    }


def several_sizes(verdict: Verdict) -> bool:
    """Whether the contrasts are with others of more than one size."""
    return len({one.size for one in verdict.contrasts}) > 1


def label(one: Contrast, with_size: bool) -> str:
    """What is compared, in a line."""
    return f"{one.size + ': ' if with_size else ''}{one.way} − {one.against}"


def _p(one: Contrast) -> float:
    return one.comparison.p_value if one.comparison.p_holm is None else one.comparison.p_holm
