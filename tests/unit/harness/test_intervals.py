"""Intervals of lm-evaluation-harness's metrics, from its documents' values."""

import json
import math

import numpy as np

from underdog.evaluation.statistics import mean_estimate, wilson
from underdog.harness.intervals import group_estimate, task_estimate

RIGHT = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0, 0.0]


def test_right_and_wrong_get_wilsons_interval():
    assert task_estimate(RIGHT, np.mean(RIGHT), np.mean) == wilson(5, 8)


def test_a_mean_of_other_numbers_is_bootstrapped():
    values = [0.25, 0.5, 0.75, 1.0]
    assert task_estimate(values, 0.625, np.mean) == mean_estimate(np.array(values))


def bits_per_byte(items: list) -> float:
    return -sum(nats for nats, _ in items) / sum(size for _, size in items) / math.log(2)


def test_what_is_no_mean_is_computed_anew_on_drawn_documents():
    rng = np.random.default_rng(0)
    items = [(-float(rng.normal(70, 5)), 100) for _ in range(200)]
    found = task_estimate(items, bits_per_byte(items), bits_per_byte)
    assert found.mean == bits_per_byte(items)
    error = np.std([-nats / 100 / math.log(2) for nats, _ in items]) / math.sqrt(200)
    np.testing.assert_allclose([found.low, found.high], [found.mean - 1.96 * error, found.mean + 1.96 * error], atol=0.4 * error)
    geometric = task_estimate([-1.0, -3.0], math.exp(2.0), lambda values: math.exp(-np.mean(values)))
    assert geometric.mean == math.exp(2.0) and geometric.low < geometric.mean < geometric.high


def test_a_group_is_a_mean_over_documents_or_over_tasks():
    many, few = [1.0] * 60 + [0.0] * 40, [1.0, 0.0, 0.0, 0.0]
    assert group_estimate([many, few], 61 / 104) == wilson(61, 104)
    macro = group_estimate([many, few], (0.6 + 0.25) / 2)
    assert macro.mean == 0.425 and macro.n == 104
    assert macro.high - macro.low > 0.3  # the small task's doubt counts for half
    assert group_estimate([many, [(1, 2)]], 0.5).high == math.inf


def test_an_interval_that_is_not_known_says_so():
    found = task_estimate(["x", "y"], 0.4, None)
    assert (found.mean, found.low, found.high, found.n) == (0.4, -math.inf, math.inf, 2)
    assert json.loads(found.model_dump_json())["low"] is None
