import pytest
from hypothesis import given
from hypothesis import strategies as st

from underdog.errors import TaskError
from underdog.evaluation.words import size as written
from underdog.task.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8M", 8_000_000),
        ("1.5B", 1_500_000_000),
        ("500k", 500_000),
        (" 135 M ", 135_000_000),
        ("8_000_000", 8_000_000),
        ("1.1M", 1_100_000),
    ],
)
def test_sizes_are_read(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "8X", "-8M", "0M", "eight", "8MB", "1e6"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(
        TaskError, match=r"is not a size\. Write a number of parameters with K, M or B, such as 500K, 8M or 1\.5B"
    ):
        parse_size(text)


@given(st.integers(min_value=1, max_value=10**12))
def test_a_written_size_is_read_back_within_five_per_cent(size: int) -> None:
    assert parse_size(written(size)) == pytest.approx(size, rel=0.05)
