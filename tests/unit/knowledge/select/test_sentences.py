"""Sentences end at their own punctuation, not at the dots of abbreviations, initials, numbers and lists."""

import pytest

from underdog.knowledge.select.sentences import after_first_sentence, up_to_last_sentence


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("Water boils. It turns to ste", "Water boils."),
        ("Is it hot? Yes! And the", "Is it hot? Yes!"),
        ('He said "go." Then he', 'He said "go."'),
        ("It costs 3.50 dollars. And 2.", "It costs 3.50 dollars. And 2."),
        ("It is 3.5 metres lo", ""),
        ("Some metals, e.g. iron, e.g. copper, e.g.", ""),
        ("It rains. Metals, e.g.", "It rains."),
        ("They saw Dr. Smith. He met Mr. Bl", "They saw Dr. Smith."),
        ("J. R. Smith wrote it. A. Jon", "J. R. Smith wrote it."),
        ("It was made in the U.S. It was so", "It was made in the U.S. It was so"[:0]),
        ("The answer is b. It is not a. So", "The answer is b. It is not a."),
        ("The answer is B. Because we", "The answer is B."),
        ("First this.\n2. Then that", "First this."),
        ("First this.\n2.", "First this."),
        ("First this.\nStep 2.", "First this."),
        ("The answer is 4.", "The answer is 4."),
        ("It is no. 5 that", ""),
        ("Is it? It is no.", "Is it? It is no."),
        ("It has iron, copper, etc. That", "It has iron, copper, etc."),
        ("水会沸腾。它变成", "水会沸腾。"),
        ("nothing whole here", ""),
        ("", ""),
    ],
)
def test_a_text_is_cut_back_to_its_last_whole_sentence(text: str, left: str) -> None:
    assert up_to_last_sentence(text) == left


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ("One. Two. Three.", "Two. Three."),
        ("A heading\nThen a sentence.", "Then a sentence."),
        ("Only one.", ""),
        ("no end at all", ""),
        ("At 3.5 and e.g. there. Next.", "Next."),
    ],
)
def test_what_follows_the_first_sentence_or_line(text: str, rest: str) -> None:
    assert after_first_sentence(text) == rest
