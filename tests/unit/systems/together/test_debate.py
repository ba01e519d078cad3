"""A debate on scripted members: who reads what, who changes their mind, and what may never be shown."""

import pytest

from underdog.systems.together.debate import Debate
from underdog.systems.together.speaking import own_prompt, statement
from underdog.task.debates import debate_template
from underdog.task.rationales import ForcedRationale, FreeRationale
from underdog.teachers.writing import Failure, Reply, Sampling
from unit.systems.together.scripted import ScriptedWriter, question, speaker

STUBBORN = "The sky is blue.\nAnswer: blue"


def follower(prompt: str, seed: int) -> str:
    """Says red at first, and what the others say once it reads them."""
    return "They are right.\nAnswer: blue" if "says: The sky is blue. Answer: C. blue" in prompt else "I guess.\nAnswer: red"


def debate(*members, rounds: int = 1) -> Debate:
    return Debate("d", members, rounds=rounds, template=debate_template(), sampling=Sampling(64, 0.7, seed=5))


def prompts(member) -> list[str]:
    assert isinstance(member.writer, ScriptedWriter)
    return [request.prompt for request in member.writer.requests]


def test_members_that_read_a_good_reason_change_their_minds() -> None:
    members = [speaker("a", lambda prompt, seed: STUBBORN), speaker("b", follower), speaker("c", follower)]
    before, after = debate(*members).rounds([question("q")])
    assert (before[0].text, before[0].confidence) == ("red", pytest.approx(2 / 3))
    assert (after[0].text, after[0].choice, after[0].confidence) == ("blue", 2, 1.0)
    assert debate(*members).answer([question("q")]) == after


def test_each_reads_the_others_and_itself_and_never_its_own_text_twice() -> None:
    members = [speaker("a", lambda prompt, seed: STUBBORN), speaker("b", lambda prompt, seed: "Roses are.\nAnswer: red")]
    debate(*members, rounds=2).answer([question("q"), question("r")])
    first, second = prompts(members[0])[:2], prompts(members[0])[2:4]
    assert {text.split("\n")[0] for text in first} == {own_prompt(question("q")).split("\n")[0]}
    assert all("Person 1 says: Roses are. Answer: A. red" in text for text in second)
    assert all("You said: The sky is blue. Answer: C. blue" in text for text in second)
    assert all(text.count("The sky is blue") == 1 and "Person 2" not in text for text in second)
    assert sorted("has q?" in text for text in second) == [False, True]
    assert len(prompts(members[0])) == 6


def test_a_model_may_debate_with_itself_with_other_draws() -> None:
    one = speaker("a", lambda prompt, seed: f"Seed {seed}.\nAnswer: {'red' if seed == 5 else 'blue'}")
    assert isinstance(one.writer, ScriptedWriter)
    system = debate(one, one)
    (before, _) = system.rounds([question("q")])
    assert one.writer.batches == [2, 2], "both seats are asked at once, before the debate and after it"
    assert before[0].confidence == 0.5
    assert system.footprint().parameters == 100
    assert system.footprint().parameters_per_answer == 400


def test_who_cannot_be_read_stays_with_what_it_said_before() -> None:
    """The second round of one member fails, the other's names no answer."""
    failing = speaker("a", lambda prompt, seed: None if "Person 1" in prompt else STUBBORN)
    mumbling = speaker("b", lambda prompt, seed: "Hm, hard to say." if "Person 1" in prompt else STUBBORN)
    before, after = debate(failing, mumbling).rounds([question("q")])
    assert (before[0].text, after[0].text, after[0].confidence) == ("blue", "blue", 1.0)


def test_members_without_any_answer_leave_the_question_open() -> None:
    lost = speaker("a", lambda prompt, seed: None)
    (answer,) = debate(lost, lost).answer([question("q")])
    assert answer.text is None
    assert answer.problem == "none of 2 members answered: the reply names no answer"
    assert "Nobody else has an answer." in prompts(lost)[-1]


def test_a_reason_that_has_seen_the_gold_answer_is_never_shown() -> None:
    system = debate(speaker("a", lambda prompt, seed: STUBBORN), speaker("b", lambda prompt, seed: STUBBORN))
    told: list = [FreeRationale("q", "a", "mine", "red"), ForcedRationale("q", "b", "because the answer is blue")]
    with pytest.raises(TypeError, match="written with the answer in view"):
        system.prompt(question("q"), told, 0)


def test_what_is_read_in_a_reply_is_a_free_reason() -> None:
    read = statement(question("q"), Reply(STUBBORN, "stop", 1, 1, 0.0), "a", numeric=False)
    assert read == FreeRationale("q", "a", "The sky is blue.", "blue")
    assert statement(question("q"), Failure("timeout: no reply"), "a", numeric=False) is None
