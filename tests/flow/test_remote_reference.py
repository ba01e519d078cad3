"""A model behind a server as the reference: asked each question once, and matched by a student."""

import random
import re
from collections import Counter
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from faulty_server import FaultyServer, Say, refusal
from flow import planted
from flow.planted import FIRST, Recorder, label_rows, write_task
from underdog.errors import MissingKey, TeacherUnavailable
from underdog.knowledge.store import Store
from underdog.search.estimate import estimate, plan_table

LABELS = list(FIRST.values())


def half_right(prompt: str, time: int) -> Say:
    """Knows the rule, but applies it to every other question only; now and then it names no choice."""
    draw = random.Random(prompt)
    word = prompt.split()[0]
    if draw.random() < 0.1:
        return Say("I would rather not say.")
    letter = "ABC"[LABELS.index(FIRST[word]) if draw.random() < 0.5 else draw.randrange(3)]
    return Say(f"The answer is {letter}.")


def test_a_student_beats_a_remote_model_that_is_asked_once(tmp_path: Path) -> None:
    with FaultyServer(half_right) as server:
        big = {"name": "big", "model": "big-model", "url": server.url, "parameters": 7_000_000_000, "ask": None}
        task_file = write_task(tmp_path, label_rows(300), teachers=[big], reference="big")
        found = planted.find(task_file)
        calls = list(server.calls)
        again = planted.find(task_file)
        assert len(server.calls) == len(calls)
    reference = found.contender("reference")
    assert (reference.name, reference.parameters, reference.cost) == ("big", 7_000_000_000, None)
    assert reference.detail == f"big-model at {server.url}, asked each question once"
    assert 0.4 < reference.quality.mean < 0.8
    assert found.verdict.winner is not None and found.contender("finalist").quality.mean > 0.95
    assert planted.measured(again.verdict) == planted.measured(found.verdict)
    asked = Counter(call.prompt for call in calls)
    assert max(asked.values()) == 1
    assert all(re.search(r"A\. left\nB\. middle\nC\. right\n\nAnswer with the letter", prompt) for prompt in asked)
    assert 0 < (reference.unscored or 0) < len(calls)
    with Store.open(tmp_path / "knowledge.sqlite") as store:
        assert len(list(store.find(teacher="big-model", mode="free"))) == len(calls)
    report = (found.folder / "report.html").read_text(encoding="utf-8")
    assert "big-model at " in report


def test_what_the_reference_may_cost_is_told_before_it_is_asked(tmp_path: Path) -> None:
    prices = {"usd_per_million_input": 1.0, "usd_per_million_output": 10.0}
    with FaultyServer(half_right) as server:
        big = {"name": "big", "model": "big-model", "url": server.url, "ask": None, "prices": prices, "cap_usd": 2.0}
        task_file = write_task(tmp_path, label_rows(300), teachers=[big], reference="big")
        task = planted.load(task_file)
        plan = estimate(task, task.settings, Recorder())
        assert not server.calls and not (tmp_path / "knowledge.sqlite").exists()
        planted.find(task_file)
    (asking,) = plan.asking
    assert (asking.name, asking.cap_usd) == ("big", 2.0)
    assert len(server.calls) <= asking.calls < 1.1 * len(server.calls), "equal questions are asked once"
    read = sum(len(call.prompt.encode()) for call in server.calls) * asking.calls / len(server.calls)
    assert asking.input_tokens == pytest.approx(read / 4, rel=0.05)
    assert asking.usd == pytest.approx((read + asking.calls * (256 + 256 * 10)) / 1e6, rel=0.05)
    told = Console(width=120, record=True, file=StringIO())
    told.print(plan_table(plan))
    assert re.search(
        rf"Asking big: {asking.calls} questions, about [\d,]+ tokens to read, at most about \$0\.\d\d \(its cap is \$2\)\.",
        told.export_text(),
    )


def test_calls_that_fail_are_tried_again_by_the_next_run(tmp_path: Path) -> None:
    """The server knows nothing of one question at first: the answer is missing, but nothing is kept in its place."""
    odd: list[str] = []

    def script(prompt: str, time: int) -> Say:
        if not odd and len(server.calls) > 5:
            odd.append(prompt)
        return refusal(422, "not this one") if prompt in odd and time == 1 else half_right(prompt, time)

    with FaultyServer(script) as server:
        big = {"name": "big", "model": "big-model", "url": server.url, "concurrency": 1}
        task_file = write_task(tmp_path, label_rows(200), teachers=[big], reference="big")
        planted.find(task_file)
    asked = Counter(call.prompt for call in server.calls)
    assert asked.pop(odd[0]) == 2
    assert set(asked.values()) == {1}


def test_a_missing_key_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    far = {"name": "big", "model": "big-model", "url": "http://127.0.0.1:9/v1", "key": "MISSING_KEY"}
    progress = Recorder()
    with pytest.raises(MissingKey, match="the environment variable MISSING_KEY is not set"):
        planted.find(write_task(tmp_path, label_rows(120), teachers=[far], reference="big"), progress)
    assert not progress.trainings


def test_a_server_that_refuses_stops_the_run_with_a_message(tmp_path: Path) -> None:
    with FaultyServer(lambda prompt, time: refusal(404, "no such model")) as server:
        far = {"name": "big", "model": "big-model", "url": server.url}
        with pytest.raises(TeacherUnavailable, match="HTTP 404: 'no such model' Check that the server has the model"):
            planted.find(write_task(tmp_path, label_rows(120), teachers=[far], reference="big"))
