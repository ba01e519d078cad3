"""What the members of a debate read, word for word: a change of a prompt asks everything anew, so it must be seen.

Where a change is meant: `PYTHONPATH=src:tests python tests/golden/test_debate.py` writes them anew; read the difference.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from underdog.answering import Question
from underdog.systems.together.debate import Debate
from underdog.systems.together.speaking import own_prompt
from underdog.task.debates import debate_template
from underdog.task.rationales import FreeRationale
from underdog.teachers.writing import Sampling

FOLDER = Path(__file__).parent / "debate"
SKIN = Question("a", "Which {skin} makes the most heat?", "\nAnswer:", ("dry palms", "wet palms"))
SUM = Question("b", "90 and 154 make?", "\nAnswer:")
LISTED = Question("c", "Where do foxes sleep?\nA. a den\nB. the sea", "\nAnswer:", ("a den", "the sea"))


def said(question: Question, text: str, answer: str | None) -> FreeRationale:
    return FreeRationale(question.id, "somebody", text, answer)


def prompt(question: Question, *statements: FreeRationale | None) -> str:
    debate = Debate("d", (), rounds=1, template=debate_template(), sampling=Sampling(64))
    return debate.prompt(question, statements, 0) + "\n"


MADE: dict[str, Callable[[], str]] = {
    "first-choices.txt": lambda: own_prompt(SKIN) + "\n",
    "first-listed.txt": lambda: own_prompt(LISTED) + "\n",
    "round-choices.txt": lambda: prompt(
        SKIN,
        said(SKIN, "Friction\nneeds grip.", "dry palms"),
        said(SKIN, "Water cools.", "dry palms"),
        said(SKIN, "Hm, {wet}?", None),
    ),
    "round-free.txt": lambda: prompt(SUM, None, said(SUM, "Tens first.", "244")),
    "round-alone.txt": lambda: prompt(LISTED, said(LISTED, "They dig.", "a den"), None),
}


@pytest.mark.parametrize("name", MADE)
def test_a_prompt_is_word_for_word_what_it_was(name: str) -> None:
    assert MADE[name]() == (FOLDER / name).read_text(encoding="utf-8")


def test_no_golden_file_is_left_over() -> None:
    assert {path.name for path in FOLDER.iterdir()} == set(MADE)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, make in MADE.items():
        (FOLDER / name).write_text(make(), encoding="utf-8")
