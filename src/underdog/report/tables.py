"""The verdict's facts as tables of words, which page, Markdown and terminal share."""

from collections.abc import Iterable
from dataclasses import dataclass

from underdog.evaluation import words
from underdog.evaluation.cost import Cost
from underdog.evaluation.statistics import Comparison
from underdog.search.verdict import Contender, Trial, Verdict

NOTHING = "–"
ROLES = {"reference": "References", "finalist": "Finalists", "system": "Working together", "control": "Controls"}


@dataclass(frozen=True, slots=True)
class Row:
    """One line: the first cell is its heading, `detail` stands small beneath it."""

    cells: tuple[str, ...]
    detail: str = ""
    mark: str = ""
    """`winner`, `deciding` (the reference to match), `promising`, or nothing."""
    group: str = ""
    """Heading that this row stands under."""


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows of words. Empty tables are not shown."""

    name: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    note: str = ""
    """What one must know to read it."""

    @property
    def groups(self) -> tuple[str, ...]:
        """The rows' headings, in order."""
        return tuple(dict.fromkeys(row.group for row in self.rows))


def by_role(verdict: Verdict) -> list[Contender]:
    """References with the deciding one first, then finalists and systems by size, then controls."""
    order = list(ROLES)
    return sorted(
        verdict.contenders,
        key=lambda one: (
            order.index(one.role),
            one.name != verdict.reference,
            (one.size or 0) if one.role in ("finalist", "system") else 0,
        ),
    )


def contender(verdict: Verdict, name: str | None) -> Contender | None:
    """Return the contender of that name, or None."""
    return next((one for one in verdict.contenders if one.name == name), None)


def nearest(verdict: Verdict) -> Contender | None:
    """Return the winner or, where there is none, the candidate that came nearest to the reference; None without candidates."""
    finalists = [one for one in verdict.contenders if one.role in ("finalist", "system")]
    best = max(finalists, key=lambda one: one.quality.mean, default=None)
    return contender(verdict, verdict.winner) or best


def quality_table(verdict: Verdict) -> Table:
    """Everybody who was measured on the test set."""
    metric = words.METRIC_NAMES.get(verdict.metric, verdict.metric)
    rows = tuple(_quality_row(verdict, one) for one in by_role(verdict))
    notes = [
        f"{capital(metric)} on test with its {100 * verdict.confidence:g} % interval; differences are to {verdict.reference}."
    ]
    compared = [one.versus_reference for one in verdict.contenders if one.versus_reference]
    if any(map(words.is_corrected, compared)):
        notes.append("The p-values of finalists are corrected for their number (Holm).")
    if any(one.role == "system" for one in verdict.contenders):
        notes.append("The parameters of models working together are those that an answer used, on average.")
    if any(one.difference.confidence > verdict.confidence for one in compared):
        notes.append("The intervals of their differences are widened so that all of them hold together.")
    if any(not one.paired for one in compared):
        notes.append("Unpaired: compared with a published figure, whose single answers are not known.")
    columns = ("Who", "Parameters", capital(metric), "Each seed", "Difference, points", "p", "Goal met")
    return Table("On the test set", columns, rows, " ".join(notes))


def _quality_row(verdict: Verdict, one: Contender) -> Row:
    detail = [one.detail]
    if one.published_source:
        detail.append(f"source: {one.published_source}")
    if one.unscored:
        items = "item" if one.unscored == 1 else "items"
        detail.append(f"{one.unscored:,} {items} could not be scored: left out, not counted as wrong")
    seeds = " · ".join(f"{100 * quality:.1f}" for _, quality in sorted(one.per_seed.items()))
    cells = (
        one.name,
        words.size(one.size) if one.size else NOTHING,
        words.percent(one.quality),
        seeds if len(one.per_seed) > 1 else NOTHING,
        _difference(one.versus_reference),
        _p(one.versus_reference),
        {True: "yes", False: "no", None: NOTHING}[one.meets_goal],
    )
    return Row(cells, "; ".join(part for part in detail if part), _mark(verdict, one), ROLES[one.role])


def _mark(verdict: Verdict, one: Contender) -> str:
    if one.name == verdict.winner:
        return "winner"
    return "deciding" if one.name == verdict.reference else ""


def _difference(compared: Comparison | None) -> str:
    if compared is None:
        return NOTHING
    return words.points(compared.difference).replace(" points", "") + ("" if compared.paired else " unpaired")


def _p(compared: Comparison | None) -> str:
    if compared is None:
        return NOTHING
    return words.p_value(compared.p_value if compared.p_holm is None else compared.p_holm).removeprefix("p ").removeprefix("= ")


def contrast_table(verdict: Verdict) -> Table:
    """Ways compared with one another."""
    rows = tuple(
        Row((one.way, one.against, one.size, _difference(one.comparison), _p(one.comparison))) for one in verdict.contrasts
    )
    over = "items and seeds" if len(verdict.seeds) > 1 else "items, one seed"
    systems = ", and systems beside the largest student taught the answers alone" if verdict.systems else ""
    note = (
        f"Students of one size, taught in different ways{systems}, asked the same test questions: the first minus the second, "
        f"paired over {over}. The p-values are corrected for their number (Holm); the intervals are not."
    )
    return Table("Ways compared", ("Way", "Against", "Size", "Difference, points", "p"), rows, note)


def selection_table(verdict: Verdict) -> Table:
    """What became of the teachers' reasons: one row for each teacher and filter."""
    rows = tuple(
        Row(
            (one.filter.replace("_", " "), one.teacher, f"{one.seen:,}", f"{one.changed:,}", f"{one.dropped:,}"),
            one.meaning,
            group=f"For {' and '.join(selection.recipes)}",
        )
        for selection in verdict.selections
        for one in selection.results
    )
    note = "Each filter sees what those above it left of a teacher's texts; the counts are of texts."
    return Table("What was learnt of the teachers' reasons", ("Filter", "Teacher", "Seen", "Changed", "Dropped"), rows, note)


def cost_table(verdict: Verdict) -> Table:
    """What answering costs, of everybody for whom it was measured."""
    measured = [(one, one.cost) for one in by_role(verdict) if one.cost]
    devices = ", ".join(dict.fromkeys(cost.device for _, cost in measured)).replace("cpu", "the CPU")
    runs = max((cost.latency_p50_s.runs for _, cost in measured), default=0)
    note = f"On {devices}, in fresh processes: median and range of {runs} runs." if measured else ""
    columns = ("Who", "Parameters", "Weights", "Peak memory", "Latency p50", "Latency p95", "Answers per second", "Best batch")
    return Table("What an answer costs", columns, tuple(_cost_row(verdict, one, cost) for one, cost in measured), note)


def _cost_row(verdict: Verdict, one: Contender, cost: Cost) -> Row:
    cells = (
        one.name,
        words.size(cost.parameters),
        words.memory(cost.weights_bytes),
        words.spread(cost.peak_memory_bytes, words.BYTES),
        words.spread(cost.latency_p50_s, words.TIMES),
        words.spread(cost.latency_p95_s, words.TIMES),
        words.spread(cost.throughput_per_s, words.PLAIN),
        str(cost.best_batch),
    )
    return Row(cells, mark=_mark(verdict, one))


def trial_table(verdict: Verdict) -> Table:
    """Every candidate that was trained, in the order of trying."""
    columns = (
        "Candidate",
        "Asked for",
        "Parameters",
        "Trained",
        "Seed",
        "On validation",
        "Promising",
        "Steps",
        "Time",
        "Peak memory",
        "Tokens per second",
    )
    note = "In the order of trying, scored on validation while the test set stayed sealed. Tokens are those with a target."
    return Table("What was tried", columns, tuple(map(_trial_row, verdict.trials)), note)


def _trial_row(trial: Trial) -> Row:
    cells = (
        trial.label,
        trial.asked_size,
        f"{trial.parameters:,}",
        words.size(trial.trained_parameters),
        str(trial.seed),
        words.percent(trial.quality),
        "yes" if trial.promising else "no",
        f"{trial.steps:,}",
        words.seconds(trial.train_seconds),
        words.memory(trial.train_peak_bytes),
        words.quantity(trial.target_tokens_per_second, words.PLAIN),
    )
    return Row(cells, "; ".join(trial.notes), "promising" if trial.promising else "")


def agreement_table(verdict: Verdict) -> Table:
    """Two by two: on how many test items student and reference are right."""
    counts = verdict.disagreement_counts
    rows = (
        Row(("student right", f"{counts.get('both right', 0):,}", f"{counts.get('winner right', 0):,}")),
        Row(("student wrong", f"{counts.get('reference right', 0):,}", f"{counts.get('both wrong', 0):,}")),
    )
    return Table("Test items", ("", "reference right", "reference wrong"), rows if sum(counts.values()) else ())


def data_table(verdict: Verdict) -> Table:
    """How many items each split has, and how many were left out of training."""
    used = [Row((name, f"{count:,}"), group="Used") for name, count in verdict.split_sizes.items()]
    removed = [Row((reason, f"{count:,}"), group="Left out of training") for reason, count in verdict.removed.items()]
    return Table("Data", ("Items", "Number"), tuple(used + removed))


def circumstances(verdict: Verdict) -> Table:
    """How the run was made: enough to make it again."""
    seeds = ", ".join(map(str, verdict.seeds))
    facts = [
        ("Goal", verdict.goal),
        ("Seeds", seeds),
        ("Command", verdict.command),
        ("Commit", verdict.commit or "not in a checkout"),
        ("Time", f"{words.seconds(60 * verdict.minutes)}, all sessions of the run together"),
        ("Budget", "reached: nothing new was tried after that" if verdict.budget_reached else "not reached"),
        ("Model folder", verdict.winner_folder or "none: no candidate met the goal"),
    ]
    openings = [(opening.when, opening.reason) for opening in verdict.openings] or [("never", "no candidate was promising")]
    rows = [
        *_rows("The run", facts),
        *_rows("Openings of the test set", openings),
        *_rows("Machine", verdict.machine.items()),
        *_rows("Versions", verdict.versions.items()),
    ]
    return Table("How it was done", ("Fact", "Value"), tuple(rows))


def _rows(group: str, facts: Iterable[tuple[str, str]]) -> list[Row]:
    return [Row(fact, group=group) for fact in facts]


def capital(text: str) -> str:
    """The text with its first letter in upper case."""
    return text[:1].upper() + text[1:]
