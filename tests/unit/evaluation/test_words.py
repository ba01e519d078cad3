"""Numbers in words, and the verdict's one sentence."""

from dataclasses import dataclass

import pytest

from underdog.evaluation import words
from underdog.evaluation.cost import Cost, Spread
from underdog.evaluation.statistics import Comparison, Estimate
from underdog.task.spec import Goal


def estimate(mean: float, low: float, high: float) -> Estimate:
    return Estimate(mean=mean, low=low, high=high, n=3080, method="wilson")


def compared(mean: float, low: float, high: float, p: float, **more: object) -> Comparison:
    return Comparison.model_validate(
        {"difference": estimate(mean, low, high), "p_value": p, "paired": True, "method": "paired: exact McNemar"} | more
    )


def steady(value: float) -> Spread:
    return Spread(median=value, low=value * 0.9, high=value * 1.1, runs=5)


def cost(memory_bytes: float, per_second: float) -> Cost:
    return Cost(
        parameters=1,
        weights_bytes=4,
        peak_memory_bytes=steady(memory_bytes),
        latency_p50_s=steady(0.01),
        latency_p95_s=steady(0.02),
        throughput_per_s=steady(per_second),
        best_batch=32,
        device="cpu",
        items=100,
    )


@dataclass(frozen=True)
class Model:
    name: str
    parameters: int | None
    quality: Estimate
    versus_reference: Comparison | None = None
    cost: Cost | None = None
    role: str = "finalist"
    parameters_per_answer: int | None = None

    @property
    def size(self) -> int | None:
        return self.parameters_per_answer or self.parameters


REFERENCE = Model("smollm2", 134_515_008, estimate(0.158, 0.146, 0.171), cost=cost(1.2e9, 20))
STUDENT = Model("student", 8_412_345, estimate(0.853, 0.84, 0.865), compared(0.695, 0.678, 0.712, 1e-300), cost=cost(0.24e9, 240))


def verdict(outcome: str, goal: Goal, best: Model | None, reference: Model = REFERENCE) -> str:
    assert outcome in ("beats", "matches", "none")
    return words.sentence(outcome, metric="accuracy", goal=goal, reference=reference, best=best, largest=16_000_000)


def test_the_sentence_of_a_student_that_beats() -> None:
    assert verdict("beats", Goal(), STUDENT) == (
        "8.4M parameters beat smollm2 (135M): accuracy 85.3 % (84.0–86.5) against 15.8 % (14.6–17.1), "
        "difference +69.5 points (67.8–71.2), p < 0.001; 1/16 of the parameters, 1/5 of the memory, 12× the speed."
    )


def test_the_sentence_of_a_student_that_matches_a_published_figure() -> None:
    published = Model("FLAN-T5-XL", None, estimate(0.86, 0.83, 0.88))
    student = Model("student", 8_412_345, STUDENT.quality, compared(-0.004, -0.012, 0.004, 0.31, paired=False, p_holm=0.62))
    assert verdict("matches", Goal(within=0.02), student, published) == (
        "8.4M parameters match FLAN-T5-XL: accuracy 85.3 % (84.0–86.5) against 86.0 % (83.0–88.0), "
        "difference −0.4 points (−1.2 to +0.4), p = 0.62 (unpaired, Holm)."
    )


@pytest.mark.parametrize(
    ("goal", "difference", "quality", "reason"),
    [
        (Goal(), (-0.049, -0.07, -0.03), 0.4, "4.9 points short of the goal."),
        (Goal(beat_by=0.01), (0.0, -0.01, 0.01), 0.4, "1.0 point short of the goal."),
        (Goal(within=0.01), (-0.03, -0.05, -0.01), 0.4, "2.0 points short of the goal."),
        (Goal(), (0.02, -0.004, 0.044), 0.4, "this meets the goal, but not with 95 % confidence."),
        (Goal(at_least=0.85), (0.2, 0.1, 0.3), 0.843, "0.7 points below the 85 % asked for."),
        (Goal(at_least=0.85), (-0.1, -0.2, -0.05), 0.8, "10.0 points short of the goal and 5.0 points below the 85 % asked for."),
        (Goal(), (0.02, 0.004, 0.044), 0.4, "not shown with 95 % confidence."),
    ],
)
def test_an_honest_none_says_what_is_missing(
    goal: Goal, difference: tuple[float, float, float], quality: float, reason: str
) -> None:
    best = Model("student", 8_412_345, estimate(quality, quality - 0.02, quality + 0.02), compared(*difference, 0.04))
    text = verdict("none", goal, best)
    verb = "matches" if goal.within else "beats"
    assert text.startswith(
        f"No candidate up to 16M parameters {verb} smollm2 (135M): the best, 8.4M parameters, reached accuracy "
    )
    assert text.endswith(f", p = 0.04; {reason}")


def test_none_without_a_finalist_says_that_none_was_tested() -> None:
    assert verdict("none", Goal(), None) == (
        "No candidate up to 16M parameters beats smollm2 (135M) with its accuracy of 15.8 % (14.6–17.1): "
        "none was promising on validation, so none was tested."
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [(412, "412"), (515_300, "515K"), (999_960, "1M"), (8_412_345, "8.4M"), (8_000_000, "8M"), (15_540_000, "15.5M"),
     (134_515_008, "135M"), (1_500_000_000, "1.5B"), (70_600_000_000, "70.6B")],
)  # fmt: skip
def test_sizes(number: int, text: str) -> None:
    assert words.size(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0 µs"), (0.00085, "850 µs"), (0.0034, "3.4 ms"), (0.9999, "1 s"), (12.34, "12.3 s"), (59.99, "1 min"),
     (312, "5 min 12 s"), (3599.9, "1 h"), (4800, "1 h 20 min"), (7200, "2 h")],
)  # fmt: skip
def test_times(number: float, text: str) -> None:
    assert words.seconds(number) == text


@pytest.mark.parametrize(("number", "text"), [(412e6, "412 MB"), (1.31e9, "1.3 GB"), (999, "999 B"), (2_048, "2 kB")])
def test_memory(number: float, text: str) -> None:
    assert words.memory(number) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [(1 / 16, "1/16 of the memory"), (0.5, "1/2 of the memory"), (0.62, "62 % of the memory"), (0.97, "the same memory"),
     (1.04, "the same memory"), (1.3, "1.3× the memory"), (12.04, "12× the memory"), (1 / 1234, "1/1,234 of the memory")],
)  # fmt: skip
def test_ratios(value: float, text: str) -> None:
    assert words.ratio(value, 1.0, "memory") == text


@pytest.mark.parametrize(
    ("p", "text"),
    [(1e-9, "p < 0.001"), (0.0031, "p = 0.0031"), (0.031, "p = 0.031"), (0.2, "p = 0.20"), (0.999, "p = 1"), (1, "p = 1")],
)
def test_p_values(p: float, text: str) -> None:
    assert words.p_value(p) == text


def test_what_is_known_without_doubt_has_no_interval() -> None:
    assert words.percent(estimate(0.25, 0.25, 0.25)) == "25.0 %"
    assert words.percent(estimate(0.853, 0.84, 0.865)) == "85.3 % (84.0–86.5)"


def test_a_difference_of_nothing_has_no_sign() -> None:
    assert words.points(estimate(-0.0001, -0.01, 0.01)) == "0.0 points (−1.0 to +1.0)"


def test_a_spread_is_in_the_unit_of_its_median() -> None:
    assert words.spread(Spread(median=1.02e9, low=0.985e9, high=1.1e9, runs=3), words.BYTES) == "1 GB (1–1.1)"
    assert words.spread(Spread(median=412e6, low=405e6, high=420.4e6, runs=3), words.BYTES) == "412 MB (405–420)"
    assert words.spread(Spread(median=0.0034, low=0.0031, high=0.0105, runs=3), words.TIMES) == "3.4 ms (3.1–10.5)"


def test_a_costlier_student_is_said_to_be_costlier() -> None:
    dear = Model("dear", 269_030_016, STUDENT.quality, STUDENT.versus_reference, cost(1.56e9, 12.5))
    assert words.savings(dear, REFERENCE) == ["2× the parameters", "1.3× the memory", "62 % of the speed"]


def test_what_is_not_known_is_left_out() -> None:
    assert words.savings(Model("x", None, STUDENT.quality), REFERENCE) == []


@pytest.mark.parametrize(
    ("goal", "text"),
    [
        (Goal(), "beat the reference, with 95 % confidence, over 3 seeds"),
        (Goal(beat_by=0.01, seeds=1), "beat the reference by more than 1.0 point, with 95 % confidence, over one seed"),
        (Goal(within=0.01, at_least=0.85, confidence=0.99),
         "come within 1.0 point of the reference and reach at least 85 %, with 99 % confidence, over 3 seeds"),
    ],
)  # fmt: skip
def test_goals(goal: Goal, text: str) -> None:
    assert words.goal_in_words(goal) == text
