"""Recording from a real server: llama.cpp's, with the real SmolLM2, started and stopped by the test."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flow.planted import Recorder
from llama_server import llama_server
from underdog.answering import Question
from underdog.errors import TeacherUnavailable
from underdog.knowledge.recording import Recorded, record, remote_writer
from underdog.knowledge.store import Store
from underdog.settings import Settings
from underdog.task.examples import Example
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.remote_answers import RemoteAnswerer
from underdog.teachers.writing import Request, Sampling

pytestmark = pytest.mark.models

KEY = "a-key-of-this-test"
QUESTIONS = ("Why is the sky blue?", "Why do cats purr?", "Why does ice float on water?")


@pytest.fixture(scope="module")
def gguf(request: pytest.FixtureRequest) -> Path:
    pytest.importorskip("xllamacpp", reason="needs llama.cpp's server, from the package xllamacpp")
    return request.getfixturevalue("smollm2_gguf")


@pytest.fixture(scope="module")
def url(gguf: Path) -> Iterator[str]:
    with llama_server(gguf, KEY) as address:
        yield address


def requests(prompts: tuple[str, ...], **sampling: Any) -> list[tuple[Example, Request]]:
    how = Sampling(**{"max_tokens": 24} | sampling)
    return [(Example(Question(prompt, prompt), "so"), Request("smollm2", "q4_1", prompt, how)) for prompt in prompts]


def run(url: str, path: Path, wanted: list[tuple[Example, Request]], key: str = KEY) -> Recorded:
    teacher = RemoteTeacher(name="llama", model="smollm2", url=url, key="LLAMA_KEY", concurrency=2, attempts=2, timeout_s=200)
    settings = Settings(cache=path.parent, environ={"LLAMA_KEY": key})
    with Store.open(path) as store:
        writer = remote_writer(teacher, store, settings)
        return record(wanted, writer, store, Recorder(), teacher="llama", task=None, mode="free")


def test_three_items_are_recorded_and_kept(url: str, tmp_path: Path) -> None:
    path = tmp_path / "knowledge.sqlite"
    recorded = run(url, path, requests(QUESTIONS))
    assert (recorded.asked, recorded.missing, recorded.failures) == (3, 0, {})
    with Store.open(path) as store:
        found = {record.item: record.reply for record in store.find()}
    assert set(found) == set(QUESTIONS)
    for reply in found.values():
        assert len(reply.text.split()) > 5 and reply.input_tokens > 5 and 0 < reply.output_tokens <= 24
        assert (reply.finish == "length") == (reply.output_tokens == 24)
    assert "sky" in found[QUESTIONS[0]].text.lower()
    assert run(url, path, requests(QUESTIONS)).kept_before == 3


def test_sampling_is_what_was_asked_for(url: str, tmp_path: Path) -> None:
    path = tmp_path / "knowledge.sqlite"
    (example, plain), (_, first), (_, other), (_, stopped) = (
        requests(QUESTIONS[:1], **sampling)[0]
        for sampling in ({}, {"temperature": 1.5, "seed": 1}, {"temperature": 1.5, "seed": 2}, {"stop": ("blue",)})
    )
    run(url, path, [(example, request) for request in (plain, first, other, stopped)])
    with Store.open(path) as store:
        said = {record.request: record.reply for record in store.find()}
    assert len({said[plain].text, said[first].text, said[other].text}) == 3
    assert "blue" in said[plain].text and "blue" not in said[stopped].text
    assert said[stopped].finish == "stop"


def test_a_prompt_too_long_for_the_server_is_a_failure_and_the_rest_is_kept(url: str, tmp_path: Path) -> None:
    long = "Why does it rain so much in autumn? " * 200
    recorded = run(url, tmp_path / "knowledge.sqlite", requests((long, *QUESTIONS[:1])))
    assert recorded.asked == 1
    assert recorded.failures == {"HTTP 400": 1}


def test_a_wrong_key_is_refused_with_what_to_do(url: str, tmp_path: Path) -> None:
    with pytest.raises(TeacherUnavailable) as raised:
        run(url, tmp_path / "knowledge.sqlite", requests(QUESTIONS), key="a-wrong-key")
    assert "refuses with HTTP 401" in str(raised.value)
    assert "Check that the environment variable LLAMA_KEY holds a key of this server" in str(raised.value)
    assert "a-wrong-key" not in str(raised.value)


def test_it_answers_questions_with_choices(url: str, tmp_path: Path) -> None:
    how = {"ask": {"max_tokens": 12}, "timeout_s": 200}
    teacher = RemoteTeacher.model_validate({"name": "llama", "model": "smollm2", "url": url, "key": "LLAMA_KEY", **how})
    with Store.open(tmp_path / "knowledge.sqlite") as store:
        writer = remote_writer(teacher, store, Settings(cache=tmp_path, environ={"LLAMA_KEY": KEY}))
        answerer = RemoteAnswerer(teacher, writer, max_new_tokens=8)
        answers = answerer.answer([Question(text, text, "\nAnswer:", ("because", "it is magic")) for text in QUESTIONS])
    assert [answer.question_id for answer in answers] == list(QUESTIONS)
    for answer in answers:
        assert answer.text in ("because", "it is magic") if answer.problem is None else answer.problem.startswith("none of")
