"""Each step of cleaning does what its name says, and counts it."""

import pytest

from underdog.errors import UnknownName
from underdog.nanofft import cleaning
from underdog.nanofft.cleaning import ALL, KEEPING_LINES, STEPS, clean


@pytest.mark.parametrize(
    ("step", "text", "expected", "count"),
    [
        ("ascii", "“Élan” — café…", '"Elan" -- cafe...', 6),
        ("ascii", "Ægis 你 £5", "AEgis  pounds 5", 3),
        ("urls", "See https://example.org/a?b=c (or www.example.org), now", "See   (or  ), now", 2),
        ("urls", "the www of it: http is a word", "the www of it: http is a word", 0),
        ("tags", 'a <b class="x">bold</b> <!-- no\nnote --> c < d > e', "a  bold    c < d > e", 3),
        ("bracketed notes", "Come.[Aside] [to [him]] Go [1].", "Come.    Go  .", 4),
        ("bracketed notes", f"[{'x' * 401}]", f"[{'x' * 401}]", 0),
        ("marks", "_very_ **good** a|b #1", " very   good  a b  1", 6),
        ("contractions", "I'm sure it's so, don't they'll?", "I am sure it is so, do not they will?", 4),
        ("contractions", "'Tis true; WON'T you? Can't I'd 'that's'", "It is true; WILL NOT you? Cannot I would 'that is'", 5),
        ("contractions", "Hamlet's father appear'd; think on't, ma'am", "Hamlet's father appear'd; think on't, ma'am", 0),
        ("contractions", "we've, who're, let's, LET'S", "we have, who are, let us, LET US", 4),
        ("digits", "In 1899, 3,000 men of the 2nd and 4.5", "In  ,   men of the   and  ", 4),
        ("lower case", "To BE", "to be", 3),
        ("white space", "  a\n\n b\tc ", "a b c", 5),
    ],
)
def test_a_step(step, text, expected, count):
    assert STEPS[step](text) == (expected, count)


def test_steps_leave_a_clean_text_alone():
    text = "to be, or not to be: that is the question."
    assert clean(text) == (text, dict.fromkeys(ALL, 0))
    once, _ = clean("“Don't” [note] 12 <i>GO</i> to www.x.org\nnow")
    assert once == '"do not" go to now'
    assert clean(once)[0] == once


def test_every_step_is_done_in_order_and_counted():
    text, counts = clean("’Twas 1 [x]", ("ascii", "contractions", "digits"))
    assert text == "It was   [x]"
    assert counts == {"ascii": 1, "contractions": 1, "digits": 1}
    assert clean("Ay, Sir\nNo.", KEEPING_LINES)[0] == "Ay, Sir\nNo."
    with pytest.raises(UnknownName, match=r"no step of cleaning is called 'digit'\. Did you mean 'digits'\?"):
        clean("x", ("digit",))


def test_nothing_is_slow_on_hostile_text():
    for text in ("[" * 20_000, "<a" * 20_000, "a'" * 20_000, "9," * 20_000, "http://" * 5_000, "<!--" * 5_000):
        clean(text)
    assert cleaning.VERSION >= 1
