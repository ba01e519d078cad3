"""Writing the report: one page that works offline, the same in Markdown, and the verdict as data."""

import json
import re
from dataclasses import dataclass, replace
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from underdog import runs
from underdog.evaluation import words
from underdog.report import tables
from underdog.report.chart import figure
from underdog.report.forest import ROW_REM, forest
from underdog.report.guide import reading_guide
from underdog.report.systems import agreement_table, calibration_table, cascade_figure, steps_table, systems_table, traces_table
from underdog.search.verdict import Verdict

OUTCOMES = {"beats": "Beats the reference", "matches": "Matches the reference", "none": "No candidate meets the goal"}
RIGHT = {
    "winner": "Only the student is right",
    "reference": "Only the reference is right",
    "neither": "Both are wrong, differently",
}


@dataclass(frozen=True, slots=True)
class ReportPaths:
    """Where the report was written."""

    html: Path
    markdown: Path
    json: Path


def write_report(verdict: Verdict, folder: Path) -> ReportPaths:
    """Write `report.html`, `report.md` and `verdict.json`, each whole or not at all. Raises DiskFull when there is no room."""
    paths = ReportPaths(folder / "report.html", folder / "report.md", folder / "verdict.json")
    runs.write_text(paths.json, verdict.model_dump_json(indent=2) + "\n")
    runs.write_text(paths.markdown, markdown(verdict))
    runs.write_text(paths.html, page(verdict))
    return paths


def page(verdict: Verdict) -> str:
    """Return the whole page, with the chart's library and everything else in it."""
    from plotly.offline import get_plotlyjs

    environment = _environment(autoescape=True)
    environment.filters["doubt"] = doubt
    charts = {"chart": figure(verdict)} | ({"forest": ways} if (ways := forest(verdict)) else {})
    charts |= {"cascade": curves} if (curves := cascade_figure(verdict)) else {}
    figures = json.dumps(charts).replace("<", "\\u003c")
    return environment.get_template("report.html.j2").render(**_facts(verdict), charts=figures, plotly=get_plotlyjs())


def markdown(verdict: Verdict) -> str:
    """Return the report as Markdown."""
    environment = _environment(autoescape=False)
    environment.filters |= {"cell": cell, "only": only, "percent": words.percent}
    return environment.get_template("report.md.j2").render(**_facts(verdict)).rstrip() + "\n"


def cell(text: object) -> str:
    """A text that stays within its cell and means nothing to Markdown or HTML."""
    line = re.sub(r"([\\`*\[\]|])", r"\\\1", " ".join(str(text).split()))
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", re.sub(r"&(?=#?\w+;)", "&amp;", line))


def only(group: str, table: tables.Table) -> tables.Table:
    """The table with the rows of one group."""
    return replace(table, rows=tuple(row for row in table.rows if row.group == group))


def doubt(text: str) -> Markup:
    """A cell in HTML: what stands in brackets at its end, or that it is unpaired, stands smaller beneath."""
    plain, bracket, interval = text.removesuffix(" unpaired").partition(" (")
    shown = escape(plain) + (Markup('<span class="doubt">{}</span>').format(interval.removesuffix(")")) if bracket else "")
    return shown + (Markup('<span class="unpaired">unpaired</span>') if text.endswith(" unpaired") else "")


def _environment(*, autoescape: bool) -> Environment:
    loader = PackageLoader("underdog", "report/templates")
    return Environment(loader=loader, autoescape=autoescape, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _facts(verdict: Verdict) -> dict[str, object]:
    return {
        "verdict": verdict,
        "outcome": OUTCOMES[verdict.outcome],
        "metric": words.METRIC_NAMES.get(verdict.metric, verdict.metric),
        "figures": highlights(verdict),
        "quality": tables.quality_table(verdict),
        "contrasts": tables.contrast_table(verdict),
        "forest_rem": 6 + ROW_REM * len(verdict.contrasts),
        "selection": tables.selection_table(verdict),
        "changes": [(one, change) for selection in verdict.selections for one in selection.results for change in one.examples],
        "systems": systems_table(verdict),
        "sureness": calibration_table(verdict),
        "members": agreement_table(verdict),
        "steps": steps_table(verdict),
        "traces": traces_table(verdict),
        "cost": tables.cost_table(verdict),
        "trials": tables.trial_table(verdict),
        "agreement": tables.agreement_table(verdict),
        "data": tables.data_table(verdict),
        "circumstances": tables.circumstances(verdict),
        "best": tables.nearest(verdict),
        "right": RIGHT,
        "guide": reading_guide(verdict),
        "confidence": f"{100 * verdict.confidence:g} %",
    }


@dataclass(frozen=True, slots=True)
class Highlight:
    """One figure worth showing large: what it is, its value, and what it compares with."""

    label: str
    value: str
    beside: str


def highlights(verdict: Verdict) -> list[Highlight]:
    """The figures that the sentence rests on, of the winner or the nearest finalist, as far as they were measured."""
    best, reference = tables.nearest(verdict), tables.contender(verdict, verdict.reference)
    if best is None or reference is None:
        return []
    metric = tables.capital(words.METRIC_NAMES.get(verdict.metric, verdict.metric))
    found = [Highlight(metric, f"{100 * best.quality.mean:.1f} %", f"reference {100 * reference.quality.mean:.1f} %")]
    if best.versus_reference:
        text, _, bounds = words.points(best.versus_reference.difference).partition(" points ")
        paired = "" if best.versus_reference.paired else ", unpaired"
        found.append(Highlight("Difference", text, f"points {bounds}{paired}"))
    if best.size:
        beside = words.ratio(best.size, reference.parameters, words.size(reference.parameters)) if reference.parameters else ""
        found.append(Highlight("Parameters" if best.role != "system" else "Parameters an answer", words.size(best.size), beside))
    if best.cost and reference.cost:
        ours, theirs = best.cost.peak_memory_bytes.median, reference.cost.peak_memory_bytes.median
        found.append(Highlight("Peak memory", words.memory(ours), words.ratio(ours, theirs, words.memory(theirs))))
        ours, theirs = best.cost.throughput_per_s.median, reference.cost.throughput_per_s.median
        plain = [words.quantity(speed, words.PLAIN) for speed in (ours, theirs)]
        found.append(Highlight("Answers per second", plain[0], f"reference {plain[1]}"))
    return found
