"""Several models that answer as one, found, set and measured in whole runs."""

import random
from collections import Counter
from html import unescape
from pathlib import Path

import pytest

from faulty_server import FaultyServer, Say, refusal
from flow import planted
from flow.planted import FILLERS, FIRST, Finder, Recorder, Row, settings, write_task
from underdog.answering import Question
from underdog.errors import TeacherUnavailable
from underdog.search.verdict import Verdict
from underdog.systems.together.parts import open_system
from underdog.systems.together.plans import CascadePlan, SystemFile

LABELS = list(FIRST.values())
BIG = 1_000_000


def half_secret(count: int, seed: int = 0) -> tuple[list[Row], dict[str, str]]:
    """Texts of which two thirds follow the rule of the first word; of the others, which begin with "exchange", only a model
    that has seen them knows the label."""
    draw = random.Random(seed)
    rows, known = [], {}
    for number in range(count):
        word = draw.choice([*FIRST, "exchange"]) if number % 3 else "exchange"
        text = " ".join([word, *draw.choices(FILLERS, k=5), str(number)])
        label = FIRST.get(word) or draw.choice(LABELS)
        known[text] = label
        rows.append({"id": f"item-{number}", "text": text, "label": label})
    return rows, known


def knowing(known: dict[str, str]):
    """A server that knows every label."""

    def answer(prompt: str, time: int) -> Say:
        text = next(text for text in known if text in prompt)
        return Say(f"The answer is {'ABC'[LABELS.index(known[text])]}.")

    return answer


def asked_texts(server: FaultyServer) -> list[str]:
    return [call.prompt for call in server.calls]


CASCADE = {"kind": "cascade", "name": "small first", "small": "labels", "big": "big", "within": 0.02}


def test_a_small_model_right_where_it_is_sure_keeps_the_big_ones_quality_with_few_calls(tmp_path: Path) -> None:
    rows, known = half_secret(420)
    with FaultyServer(knowing(known)) as server:
        big = {"name": "big", "model": "big-model", "url": server.url, "parameters": BIG, "ask": None}
        file = write_task(tmp_path, rows, teachers=[big], reference="big", systems=[CASCADE], goal={"seeds": 2, "within": 0.08})
        found = planted.find(file)
        calls = len(server.calls)
        again = planted.find(file)
        assert len(server.calls) == calls
    assert planted.measured(again.verdict) == planted.measured(found.verdict)
    verdict, system = found.verdict, found.contender("system")
    secret = sum("exchange" in text.split()[0] for text in known) / len(known)
    student = found.contender("finalist")
    assert student.quality.mean < 0.8
    assert student.meets_goal is False
    assert system.quality.mean > 0.96
    (facts,) = verdict.systems
    assert facts.calls is not None
    assert facts.calls.mean == pytest.approx(secret, abs=0.1)
    assert (facts.calls_on_validation, facts.marked) == (pytest.approx(secret, abs=0.15), 0)
    assert system.parameters == BIG + (student.parameters or 0)
    expected = (student.parameters or 0) + facts.calls.mean * BIG
    assert system.parameters_per_answer == pytest.approx(expected, abs=1)
    assert system.cost is None  # part of it is behind a server
    assert verdict.winner == "small first"
    assert verdict.outcome == "matches"
    assert verdict.sentence.startswith("small first (")
    assert "parameters an answer" in verdict.sentence
    parts = {curve.part: curve.points for curve in facts.curves}
    assert set(parts) == {"validation", "test"}
    for points in parts.values():
        assert (points[0].calls, points[-1].calls) == (0.0, 1.0)
        assert points[-1].quality.mean == pytest.approx(1.0)
        assert points[0].quality.mean < 0.8
    (calibrated,) = facts.calibrations
    assert (calibrated.member, calibrated.calibration.n) == ("labels", verdict.split_sizes["test"])
    assert {(one.first, one.second) for one in facts.agreements} == {("labels", "big")}
    page = unescape((found.folder / "report.html").read_text(encoding="utf-8"))
    for text in ("Working together", "small first", "How sure the members are", 'id="cascade"', "Quality against the share"):
        assert text in page
    assert "### Quality of small first against its calls, test" in (found.folder / "report.md").read_text(encoding="utf-8")
    assert Verdict.model_validate_json((found.folder / "verdict.json").read_text(encoding="utf-8")) == again.verdict


def test_the_winning_system_can_be_opened_again_and_sends_on_only_what_it_must(tmp_path: Path) -> None:
    rows, known = half_secret(300)
    with FaultyServer(knowing(known)) as server:
        big = {"name": "big", "model": "big-model", "url": server.url, "parameters": BIG, "ask": None}
        other = {"name": "weak", "published": {"quality": 0.5, "items": 100, "source": "somewhere"}}
        fields = {"teachers": [big, other], "reference": "weak", "systems": [CASCADE], "goal": {"seeds": 1}}
        found = planted.find(write_task(tmp_path, rows, **fields))
        (facts,) = found.verdict.systems
        (folder,) = (path for path in (found.folder / "systems").iterdir())
        # The big model is no reference here: of the test questions it saw those below the threshold, and no others.
        sizes = found.verdict.split_sizes
        assert facts.calls is not None
        assert len(server.calls) == sizes["valid"] + round(facts.calls.mean * sizes["test"])
        assert {curve.part for curve in facts.curves} == {"validation"}
        server.calls.clear()
        system = open_system(folder, settings(tmp_path))
        texts = [text for text in known if text.split()[0] in FIRST][:12] + [text for text in known if "exchange" in text][:4]
        asked = [Question(f"q{number}", text, "\nAnswer:", tuple(LABELS)) for number, text in enumerate(texts)]
        answers = system.answer(asked)
        assert [answer.text for answer in answers] == [known[text] for text in texts]
        assert len(server.calls) == sum(answer.by == "big" for answer in answers) <= 8
    plan = SystemFile.model_validate_json((folder / "system.json").read_text(encoding="utf-8")).system
    assert isinstance(plan, CascadePlan)
    assert plan.threshold == facts.threshold
    assert not str(plan).count(str(tmp_path))  # the run folder may be moved


def test_a_big_model_that_goes_away_leaves_marked_answers_or_stops_the_run(tmp_path: Path) -> None:
    rows, known = half_secret(300)
    answer, gone = knowing(known), [False]

    def script(prompt: str, time: int) -> Say:
        return refusal(404, "no such model") if gone[0] else answer(prompt, time)

    class Leaving(Recorder):
        """The server goes away once the test set is open."""

        def say(self, text: str) -> None:
            gone[0] = gone[0] or "questions of test" in text

    with FaultyServer(script) as server:
        big = {"name": "big", "model": "big-model", "url": server.url, "parameters": BIG, "ask": None}
        weak = {"name": "weak", "published": {"quality": 0.5, "items": 100, "source": "somewhere"}}
        fields = {"teachers": [big, weak], "reference": "weak", "goal": {"seeds": 1}}
        kind = write_task(tmp_path / "kind", rows, **fields, systems=[CASCADE | {"when_unreachable": "small"}])
        (facts,) = (found := planted.find(kind, Leaving())).verdict.systems
        assert facts.marked > 10
        assert found.contender("system").quality.mean == pytest.approx(found.contender("finalist").quality.mean)
        assert f"{facts.marked} in vain" in found.contender("system").detail
        assert "were left to the small model" in (found.folder / "report.md").read_text(encoding="utf-8")
        strict = write_task(tmp_path / "strict", rows, **fields, systems=[CASCADE])
        gone[0] = False
        with pytest.raises(TeacherUnavailable, match="no such model"):
            planted.find(strict, Leaving())
        gone[0] = True
        never = write_task(tmp_path / "never", rows, **fields, systems=[CASCADE | {"when_unreachable": "small"}])
        verdict = planted.find(never).verdict
    assert verdict.systems == ()
    assert any("System 'small first' was left out: big could not be reached" in note for note in verdict.notes)


@pytest.mark.parametrize("when", ["small", "fail"])
def test_a_big_model_that_cannot_be_understood_is_no_big_model(tmp_path: Path, when: str) -> None:
    rows, _ = half_secret(240)
    with FaultyServer(lambda prompt, time: Say("Hm.")) as server:
        big = {"name": "big", "model": "big-model", "url": server.url, "parameters": BIG, "ask": None}
        weak = {"name": "weak", "published": {"quality": 0.5, "items": 100, "source": "somewhere"}}
        systems = [CASCADE | {"when_unreachable": when}]
        file = write_task(tmp_path, rows, teachers=[big, weak], reference="weak", goal={"seeds": 1}, systems=systems)
        verdict = planted.find(file).verdict
    assert verdict.systems == ()
    assert any("System 'small first' was left out: big gave no answer to any of" in note for note in verdict.notes)


def test_thresholds_are_chosen_where_the_big_model_answered(tmp_path: Path) -> None:
    rows, known = half_secret(300)
    answer = knowing(known)
    with FaultyServer(lambda prompt, time: Say("Hm.") if "exchange" in prompt else answer(prompt, time)) as server:
        big = {"name": "big", "model": "big-model", "url": server.url, "parameters": BIG, "ask": None}
        weak = {"name": "weak", "published": {"quality": 0.5, "items": 100, "source": "somewhere"}}
        systems = [CASCADE | {"when_unreachable": "small"}]
        file = write_task(tmp_path, rows, teachers=[big, weak], reference="weak", goal={"seeds": 1}, systems=systems)
        verdict = planted.find(file).verdict
    ((curve,),) = [one.curves for one in verdict.systems]
    (answered,) = {point.quality.n for point in curve.points}
    assert 0 < answered < verdict.split_sizes["valid"] / 2
    assert curve.points[-1].quality.mean == pytest.approx(1.0)


def test_votes_of_students_and_of_systems(find: Finder) -> None:
    rows, _ = half_secret(240)
    found = find(
        rows,
        recipes=[{"kind": "labels", "name": "a"}, {"kind": "labels", "name": "b", "answer_loss": "choices"}],
        goal={"seeds": 2, "every_recipe": True},
        systems=[
            {"kind": "vote", "name": "by count", "members": ["a", "b", "untrained"]},
            {"kind": "vote", "name": "by likelihood", "members": ["a", "b"], "how": "likelihood"},
            {"kind": "vote", "name": "learned", "members": ["a", "untrained"], "how": "learned"},
            {"kind": "cascade", "name": "chain", "small": "a", "big": "by likelihood", "calls": 0.5},
        ],
        contrasts=[["learned", "by likelihood"], ["chain", "b"]],
    )
    compared = {(one.way, one.against): one.comparison for one in found.verdict.contrasts}
    names = ["by count", "by likelihood", "learned", "chain"]
    assert list(compared)[-7:] == [("b · full", "a · full"), *((name, "a · full") for name in names),
                                   ("learned", "by likelihood"), ("chain", "b · full")]  # fmt: skip
    assert len(compared) == len(found.verdict.contrasts)
    quality = {one.name.split(" · ")[-2] if one.role == "finalist" else one.name: one.quality.mean
               for one in found.verdict.contenders if one.role in ("finalist", "system")}  # fmt: skip
    for (one, other), comparison in list(compared.items())[-7:]:
        first, second = one.removesuffix(" · full"), other.removesuffix(" · full")
        assert comparison.paired and comparison.difference.mean == pytest.approx(quality[first] - quality[second])
    facts = {one.name: one for one in found.verdict.systems}
    students = [one for one in found.verdict.contenders if one.role == "finalist"]
    for name in ("by likelihood", "learned", "chain"):
        system = found.contender("system", name)
        assert system.quality.mean >= min(one.quality.mean for one in students) - 0.05
        assert set(system.per_seed) == {0, 1}
        assert system.versus_reference is not None and system.versus_reference.p_holm is not None
        assert system.versus_reference.difference.confidence == pytest.approx(1 - 0.05 / 6)
    both = found.contender("system", "by likelihood")
    assert both.parameters == both.parameters_per_answer == sum(one.parameters or 0 for one in students)
    assert both.cost is not None and both.cost.parameters == both.parameters
    assert facts["learned"].weights[0] > 0.3 > facts["learned"].weights[1]
    assert [(one.first, one.second) for one in facts["by count"].agreements] == [
        ("a", "b"),
        ("a", "untrained"),
        ("b", "untrained"),
    ]
    chain = facts["chain"]
    assert chain.calls is not None and chain.calls_on_validation is not None
    assert chain.calls_on_validation <= 0.5
    assert chain.target == "50 % of calls"
    # The student in both places lies in memory once.
    assert found.contender("system", "chain").parameters == both.parameters
    assert {one.member for one in facts["by likelihood"].calibrations} == {"a", "b"}
    single = next(one for one in students if one.name == found.verdict.winner)
    assert single.meets_goal  # a student that meets the goal is smaller than any vote with it


def test_models_that_write_are_asked_once_and_vote_or_debate(tmp_path: Path) -> None:
    rows, known = half_secret(90)
    answer = knowing(known)

    def script(prompt: str, time: int) -> Say:
        """Guesses at first; once it reads a reason, it knows."""
        right = answer(prompt, time).text
        if "Person 1 says" in prompt:
            return Say(f"Now I see it. Answer it must be.\n{right.replace('The answer is', 'Answer:')}")
        return Say("I guess.\nAnswer: A")

    with FaultyServer(script) as server:
        big = {"name": "big", "model": "big-model", "url": server.url, "ask": None}
        file = write_task(
            tmp_path, rows, teachers=[big, {"name": "untrained", "model": "MODEL"}], reference="untrained", goal={"seeds": 1},
            systems=[
                {"kind": "samples", "name": "three times", "model": "big", "samples": 3},
                {"kind": "debate", "name": "talk", "members": ["big", "big"], "max_tokens": 64},
                {"kind": "samples", "name": "small talk", "model": "untrained", "samples": 2, "max_tokens": 8},
            ],
        )  # fmt: skip
        found = planted.find(file)
        calls = Counter(asked_texts(server))
        planted.find(file)
        assert Counter(asked_texts(server)) == calls
    test = found.verdict.split_sizes["test"]
    assert sum(count for text, count in calls.items() if "Person 1 says" in text) == 2 * test
    talk, times = found.contender("system", "talk"), found.contender("system", "three times")
    assert talk.quality.mean == 1.0
    assert times.quality.mean < 0.6
    assert (talk.parameters, talk.parameters_per_answer, talk.meets_goal) == (None, None, True)
    assert found.verdict.winner != "talk"  # nobody knows how big it is
    (agreement,) = next(one for one in found.verdict.systems if one.name == "talk").agreements
    assert agreement.first == "vote before the debate"
    assert agreement.share.mean == pytest.approx(times.quality.mean)
    assert "System 'small talk' is missing: it answered none of the test questions." in found.verdict.notes
