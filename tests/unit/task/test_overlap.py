import pytest

from underdog.task.overlap import grams, normalise


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


def test_texts_share_a_gram_when_they_share_eight_words_in_a_row() -> None:
    text = "One two, three four FIVE six -- seven eight nine."
    assert len(grams(text)) == 2
    assert grams(text) & grams("zero one two three four five six seven eight")
    assert not grams(text) & grams("one two three four five six seven nine eight")
    assert grams("one two three four five six seven") == frozenset()
    assert len(grams("a b c", words=2)) == 2
    assert all(len(gram) == 8 for gram in grams(text))
