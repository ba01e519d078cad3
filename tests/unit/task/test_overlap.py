import pytest

from underdog.task.overlap import normalise


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("How do I top-up?", "how do i   top up"),
        ("What’s “this”...?!", 'what\'s "this"'),
        ("ﬁne – ＡＢＣ", "Fine ABC"),
        ("STRASSE", "straße"),
        ("a\u00a0b\tc\n", "A B C"),
        ("`x`_y", "x y"),
    ],
)
def test_case_width_punctuation_and_white_space_do_not_count(one: str, other: str) -> None:
    assert normalise(one) == normalise(other) != ""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("3 + 4", "3 * 4"),
        ("3 < 4", "3 > 4"),
        ("C", "C#"),
        ("$5", "€5"),
        ("5", "5%"),
        ("की", "का"),
        (":-)", ":-("),
        ("cafe", "café"),
    ],
)
def test_what_changes_the_meaning_counts(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)
