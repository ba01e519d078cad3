"""How to read a report, for whoever is no statistician."""

from underdog.evaluation import words
from underdog.report.tables import capital
from underdog.search.verdict import Verdict
from underdog.task.spec import METRICS


def reading_guide(verdict: Verdict) -> list[tuple[str, str]]:
    """Return terms and their meaning in plain words, as far as this verdict uses them."""
    share = f"{100 * verdict.confidence:g}"
    seeds = len(verdict.seeds)
    compared = [one.versus_reference for one in verdict.contenders if one.versus_reference]
    guide = [
        (
            capital(words.METRIC_NAMES.get(verdict.metric, verdict.metric)),
            f"{capital(METRICS.get(verdict.metric, 'the quality'))}. 100 % is perfect.",
        ),
        (
            "The range in brackets",
            "The test set is a sample, so every figure could have come out a little higher or lower. Ranges made in this way "
            f"hold the true value about {share} times in 100. The narrower, the surer.",
        ),
        (
            "Difference",
            "Student less reference, in percentage points, on the very same questions. Only where the whole range lies above 0 "
            "is the student clearly better; where it holds 0, either may be.",
        ),
        (
            "p",
            "How often chance alone would show a difference this large if both were equally good. Small (below "
            f"{1 - verdict.confidence:g}) means that luck is a poor explanation; it does not say how large the difference is.",
        ),
    ]
    if any(map(words.is_corrected, compared)):
        guide.append(
            (
                "Holm",
                "Who tests several candidates gets several chances to be lucky. The p-values are raised to make up for that.",
            )
        )
    if any(not one.paired for one in compared):
        guide.append(
            (
                "Unpaired",
                "Of a published figure only the percentage is known, not which questions were answered rightly. Such a "
                "comparison is less sharp, and the test conditions may have differed.",
            )
        )
    if seeds > 1:
        guide.append(
            (
                "Each seed",
                f"Training has chance in it. Each finalist was trained {seeds} times; its figure is the mean, and its range "
                "includes how much the runs differ.",
            )
        )
    if verdict.systems:
        guide += _together(verdict)
    return [
        *guide,
        (
            "Validation and test",
            "Candidates are chosen on validation items. The test items stay sealed until then: a figure on items that helped to "
            "choose is flattering. Every opening is listed above.",
        ),
        (
            "Controls",
            "What one gets for nothing: guessing, always giving the commonest answer, a model before any training. A student "
            "that does not clearly beat these has learnt nothing of use.",
        ),
        (
            "Could not be scored",
            "No answer could be had. That is not the same as a wrong answer: such items are left out on both sides and counted.",
        ),
        (
            "Memory, latency, answers per second",
            "Peak memory of a fresh process that loads the model and answers. Latency is the wait for one answer: half are "
            "faster than p50, 95 in 100 faster than p95. Answers per second is at the best batch size tried.",
        ),
    ]


def _together(verdict: Verdict) -> list[tuple[str, str]]:
    """What one must know of several models that answer as one."""
    found = [
        (
            "Parameters an answer",
            "Models working together lie in memory together, but not all of them are asked every question. This is how many "
            "parameters an answer used, on average over the test questions: what it cost to compute. Memory is another matter.",
        )
    ]
    if any(facts.calls is not None for facts in verdict.systems):
        found.append(
            (
                "Cascade",
                "A small model answers, and where it is not sure enough a big one is asked. The curve shows the quality for "
                "every share of questions that could be sent on; where to stop was decided on validation.",
            )
        )
    return found
