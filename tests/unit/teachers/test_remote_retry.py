"""When a call is tried again."""

import random
from datetime import UTC, datetime

import pytest

from underdog.teachers.retry import Backoff, retry_after_s

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_waits_fill_a_window_that_doubles_up_to_a_limit() -> None:
    backoff, draw = Backoff(base_s=0.5, longest_s=30.0), random.Random(0)
    for failures, window in [(1, 0.5), (2, 1.0), (4, 4.0), (7, 30.0), (5000, 30.0)]:
        waits = [backoff.wait_s(failures, draw) for _ in range(2000)]
        assert 0 <= min(waits) < 0.02 * window
        assert 0.98 * window < max(waits) <= window
        assert sum(waits) / len(waits) == pytest.approx(window / 2, rel=0.05)


def test_what_the_server_asks_for_is_the_least() -> None:
    backoff, draw = Backoff(base_s=1.0), random.Random(0)
    waits = [backoff.wait_s(1, draw, asked_s=7.0) for _ in range(100)]
    assert min(waits) >= 7.0 and max(waits) <= 8.0 and len(set(waits)) == 100


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, None), ("0", 0.0), ("120", 120.0), (" 3 ", 3.0), ("-5", 0.0), ("soon", None), ("", None),
        ("Thu, 01 Jan 2026 12:01:30 GMT", 90.0), ("Thu, 01 Jan 2026 13:01:30 +0100", 90.0),
        ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0), ("Thu, 99 Jan 2026 11:00:00 GMT", None),
    ],
)  # fmt: skip
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str | None, seconds: float | None) -> None:
    assert retry_after_s(value, NOON) == seconds
