"""A remote teacher against a real HTTP server with faults: what comes back, what is asked again, and what it costs."""

import asyncio
import random
import time
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from faulty_server import BROKEN, BUSY, CUT, EMPTY, OK, RESET, SHORT, WRONG_SCHEMA, FaultyServer, Say, first, refusal, slow
from underdog.errors import MissingKey, TeacherUnavailable
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.chat import DOUBTFUL
from underdog.teachers.remote import GIVE_UP_AFTER, RemoteWriter, key_of
from underdog.teachers.retry import Backoff
from underdog.teachers.writing import Failure, Reply, Request, Sampling

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
KEY = "sk-very-secret-0123456789"


def requests(count: int = 1, **sampling: Any) -> list[Request]:
    return [Request("big-model", "", f"Why {number}?", Sampling(**{"max_tokens": 20} | sampling)) for number in range(count)]


class Waits:
    """Sleeps that are noted instead of slept."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)


def writer(server: FaultyServer, *, secret: str | None = None, waits: Waits | None = None, **fields: Any) -> RemoteWriter:
    teacher = RemoteTeacher(**{"name": "big", "model": "big-model", "url": server.url, "timeout_s": 30.0} | fields)
    draw = random.Random(0)
    return RemoteWriter(teacher, secret, draw=draw, sleep=waits or Waits(), now=lambda: NOON, backoff=Backoff(base_s=1.0))


def only(server: FaultyServer, **options: Any) -> Reply | Failure:
    ((_, outcome),) = writer(server, **options).write(requests())
    return outcome


def test_a_prompt_goes_out_as_asked_and_its_reply_comes_back_with_its_count() -> None:
    with FaultyServer(lambda prompt, time: Say(f"Said to {prompt}", finish="length", tokens=(7, 3))) as server:
        wanted = requests(1, max_tokens=33, temperature=0.5, top_p=0.9, seed=4, stop=("\n\n",))
        ((request, reply),) = writer(server).write(wanted)
    assert request == wanted[0]
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish, reply.input_tokens, reply.output_tokens) == ("Said to Why 0?", "length", 7, 3)
    assert reply.seconds > 0
    (call,) = server.calls
    assert call.path == "/v1/chat/completions"
    assert call.wanted == {
        "model": "big-model", "messages": [{"role": "user", "content": "Why 0?"}], "max_tokens": 33,
        "temperature": 0.5, "top_p": 0.9, "seed": 4, "stop": ["\n\n"],
    }  # fmt: skip


def test_half_a_character_at_the_end_of_a_text_that_was_cut_does_not_make_it_unreadable() -> None:
    with FaultyServer(lambda prompt, time: Say("It is \ud83d", finish="length")) as server:
        reply = only(server)
    assert isinstance(reply, Reply) and (reply.text, reply.finish) == ("It is \ufffd", "length")
    assert len(server.calls) == 1


def test_many_calls_are_in_flight_at_once_but_never_more_than_allowed() -> None:
    with FaultyServer(lambda prompt, time: slow(0.02)) as server:
        outcomes = list(writer(server, concurrency=5).write(requests(30)))
    assert sorted(request.prompt for request, _ in outcomes) == sorted(request.prompt for request in requests(30))
    assert all(isinstance(reply, Reply) for _, reply in outcomes)
    assert server.most_in_flight == 5


def test_a_caller_whose_thread_runs_a_loop_already_is_served_as_well() -> None:
    async def notebook() -> list[bool]:
        return [isinstance(outcome, Reply) for _, outcome in writer(server).write(requests(5))]

    async def one_reply_alone() -> None:
        outcomes = writer(server, concurrency=1).write(requests(5))
        next(outcomes)
        outcomes.close()

    with FaultyServer() as server:
        assert asyncio.run(notebook()) == [True] * 5
        asyncio.run(one_reply_alone())
        assert 6 <= len(server.calls) <= 7


def test_replies_are_yielded_as_they_come() -> None:
    with FaultyServer(lambda prompt, time: slow(1.0) if prompt == "Why 0?" else OK) as server:
        order = [request.prompt for request, _ in writer(server).write(requests(4))]
    assert order[-1] == "Why 0?"


@pytest.mark.parametrize(
    "fault", [BUSY, BROKEN, refusal(503, "overloaded"), CUT, SHORT, RESET, EMPTY, WRONG_SCHEMA, Say(body="<html>oops")]
)
def test_a_passing_fault_is_asked_again_until_the_reply_comes(fault: Say) -> None:
    waits = Waits()
    with FaultyServer(first(fault, fault)) as server:
        reply = only(server, waits=waits)
    assert isinstance(reply, Reply) and reply.text == "Because it is so."
    assert len(server.calls) == 3 and len(waits.seconds) == 2


def test_a_slow_server_is_not_waited_for_longer_than_the_timeout() -> None:
    started = time.monotonic()
    with FaultyServer(first(slow(30))) as server:
        reply = only(server, timeout_s=1.0)
    assert isinstance(reply, Reply)
    assert time.monotonic() - started < 20


@pytest.mark.parametrize(
    ("fault", "problem"),
    [
        (BUSY, "HTTP 429: 'slow down'"),
        (BROKEN, "HTTP 500: 'something went wrong'"),
        (slow(30), "no reply within 1 s"),
        (CUT, 'the reply is cut off or no JSON: \'{"id": "1", "object": '),
        (Say(body="[" * 100_000), "the reply is cut off or no JSON: '[[["),
        (SHORT, "the connection broke: "),
        (RESET, "the connection broke: "),
        (WRONG_SCHEMA, 'the reply is no chat completion: \'{"hello": "world"}\''),
        (EMPTY, "empty text: finished with 'stop'"),
        (Say("", finish="content_filter"), "empty text: finished with 'content_filter'"),
    ],
)
def test_a_fault_that_stays_is_a_failure_with_its_reason_and_the_rest_goes_on(fault: Say, problem: str) -> None:
    with FaultyServer(lambda prompt, time: fault if prompt == "Why 0?" else OK) as server:
        outcomes = dict(writer(server, attempts=3, timeout_s=1.0 if fault.wait_s else 30.0).write(requests(3)))
    failure = outcomes[requests()[0]]
    assert isinstance(failure, Failure) and failure.problem.startswith(problem)
    assert Counter(call.prompt for call in server.calls) == {"Why 0?": 3, "Why 1?": 1, "Why 2?": 1}
    assert sum(isinstance(outcome, Reply) for outcome in outcomes.values()) == 2


@pytest.mark.parametrize(
    ("header", "least"), [("7", 7.0), ("Thu, 01 Jan 2026 12:00:09 GMT", 9.0), ("Thu, 01 Jan 2026 11:00:00 GMT", 0.0)]
)
def test_a_server_that_says_when_is_not_asked_before(header: str, least: float) -> None:
    waits = Waits()
    with FaultyServer(first(refusal(429, "later", Retry_After=header))) as server:
        assert isinstance(only(server, waits=waits), Reply)
    (waited,) = waits.seconds
    assert least <= waited <= least + 1.0


def test_a_server_that_asks_for_hours_is_left_alone_and_the_user_told() -> None:
    tomorrow = refusal(429, "come tomorrow", Retry_After="7200")
    with FaultyServer(lambda prompt, time: tomorrow) as server, pytest.raises(TeacherUnavailable) as raised:
        list(writer(server, concurrency=1).write(requests(3)))
    assert len(server.calls) == 1
    assert "refuses with HTTP 429: 'come tomorrow' The server asks to wait for 120 minutes; try again then." in str(raised.value)
    assert "3 of 3 calls are still to be made. Everything said so far is kept" in str(raised.value)


@pytest.mark.parametrize(
    ("refused", "key_name", "message"),
    [
        (refusal(401, "who are you?"), "BIG_KEY", "HTTP 401: 'who are you?' Check that the environment variable BIG_KEY holds a "
         "key of this server that may use 'big-model'."),
        (refusal(401, "who are you?"), None, "If the server wants a key, write `key: NAME` with the environment variable that "
         "holds it."),
        (refusal(403, "not you"), "BIG_KEY", "HTTP 403: 'not you' Check that the environment variable BIG_KEY"),
        (refusal(404, "no such model"), None, "HTTP 404: 'no such model' Check that the server has the model 'big-model', and "
         "that the address is its API's (most end in /v1)."),
        (refusal(429, "pay first", "insufficient_quota"), None, "The account's money or quota is used up."),
        (Say(status=404, body="<h1>nothing here</h1>"), None, "HTTP 404: '<h1>nothing here</h1>'"),
    ],
)  # fmt: skip
def test_a_refusal_stops_at_once_and_says_what_to_do(refused: Say, key_name: str | None, message: str) -> None:
    with FaultyServer(lambda prompt, time: refused) as server, pytest.raises(TeacherUnavailable) as raised:
        list(writer(server, secret=KEY, key=key_name, concurrency=1).write(requests(5)))
    assert len(server.calls) == 1
    assert f"teacher 'big': {server.url} refuses with " in str(raised.value)
    assert message in str(raised.value)
    assert "5 of 5 calls are still to be made." in str(raised.value)


def test_a_prompt_that_is_refused_first_of_all_is_a_failure_of_that_prompt() -> None:
    filtered = refusal(400, "The prompt was filtered", "content_filter")
    with FaultyServer(lambda prompt, time: filtered if prompt == "Why 0?" else OK) as server:
        outcomes = dict(writer(server, concurrency=1).write(requests(3)))
    assert outcomes[requests()[0]] == Failure("HTTP 400: 'The prompt was filtered'")
    assert sum(isinstance(outcome, Reply) for outcome in outcomes.values()) == 2


def test_where_every_prompt_is_refused_the_settings_are_to_blame() -> None:
    with FaultyServer(lambda prompt, time: refusal(400, "unknown field")) as server, pytest.raises(TeacherUnavailable) as raised:
        list(writer(server, concurrency=1).write(requests(50)))
    assert len(server.calls) == DOUBTFUL
    assert "HTTP 400: 'unknown field' Check the teacher's model, address and `ask` settings against what the server " in str(
        raised.value
    )
    assert f"{50 - DOUBTFUL + 1} of 50 calls are still to be made." in str(raised.value)


def test_replies_in_flight_when_a_refusal_comes_are_still_yielded() -> None:
    with FaultyServer(lambda prompt, time: refusal(401, "no") if prompt == "Why 0?" else slow(0.3)) as server:
        came: list[str] = []
        with pytest.raises(TeacherUnavailable):
            for request, _ in writer(server, concurrency=4).write(requests(20)):
                came.append(request.prompt)
    assert sorted(came) == ["Why 1?", "Why 2?", "Why 3?"]


def test_one_prompt_that_is_too_long_is_a_failure_and_no_refusal() -> None:
    too_long = refusal(400, "This model's maximum context length is 4096 tokens", "context_length_exceeded")
    with FaultyServer(lambda prompt, time: too_long if prompt == "Why 0?" else OK) as server:
        outcomes = dict(writer(server, concurrency=1).write(requests(3)))
    assert len(server.calls) == 3
    assert outcomes[requests()[0]] == Failure('HTTP 400: "This model\'s maximum context length is 4096 tokens"')
    assert sum(isinstance(outcome, Reply) for outcome in outcomes.values()) == 2


def test_a_prompt_refused_after_others_were_answered_is_a_failure_of_that_prompt() -> None:
    with FaultyServer(lambda prompt, time: refusal(422, "not this") if prompt == "Why 1?" else OK) as server:
        outcomes = dict(writer(server, concurrency=1).write(requests(3)))
    assert outcomes[requests(3)[1]] == Failure("HTTP 422: 'not this'")


def test_a_server_that_is_down_is_not_asked_ten_thousand_times() -> None:
    failed: list[Failure] = []
    with FaultyServer(lambda prompt, time: BROKEN) as server, pytest.raises(TeacherUnavailable) as raised:
        for _, outcome in writer(server, attempts=2, concurrency=1).write(requests(100)):
            assert isinstance(outcome, Failure)
            failed.append(outcome)
    assert len(failed) == GIVE_UP_AFTER
    assert len(server.calls) == 2 * GIVE_UP_AFTER
    assert (
        f"teacher 'big': 20 calls in a row failed in all 2 attempts, the last with HTTP 500: 'something went wrong'. "
        f"Look after the server at {server.url}. 80 of 100 calls are still to be made." in str(raised.value)
    )


def test_no_server_at_all_is_said_in_words() -> None:
    with FaultyServer() as server:
        pass
    failure = only(server, attempts=2)
    assert isinstance(failure, Failure) and failure.problem.startswith("no connection to the server: ")


def test_many_empty_texts_do_not_mean_that_the_server_is_down() -> None:
    with FaultyServer(lambda prompt, time: EMPTY) as server:
        outcomes = list(writer(server, attempts=2).write(requests(50)))
    assert len(outcomes) == 50 and all(isinstance(outcome, Failure) for _, outcome in outcomes)


def test_a_model_that_names_another_field_for_the_limit_gets_it() -> None:
    def script(prompt: str, time: int) -> Say:
        if "max_tokens" in server.calls[-1].wanted:
            return refusal(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        return OK

    with FaultyServer(script) as server:
        assert all(isinstance(outcome, Reply) for _, outcome in writer(server, concurrency=1).write(requests(3)))
    assert [call.wanted.get("max_completion_tokens") for call in server.calls] == [None, 20, 20, 20]


def test_calls_that_were_in_flight_when_it_was_named_get_it_too() -> None:
    def script(prompt: str, time: int) -> Say:
        if "max_tokens" in next(call for call in reversed(server.calls) if call.prompt == prompt).wanted:
            refused = refusal(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
            return replace(refused, wait_s=0.02 * int(prompt[4:-1]))
        return OK

    with FaultyServer(script) as server:
        outcomes = list(writer(server, concurrency=5).write(requests(8)))
    assert len(outcomes) == 8 and all(isinstance(outcome, Reply) for _, outcome in outcomes)
    assert Counter(call.prompt for call in server.calls) == {f"Why {number}?": 1 + (number < 5) for number in range(8)}


def test_a_caller_that_stops_early_ends_the_calls_in_flight() -> None:
    with FaultyServer(lambda prompt, time: OK if prompt == "Why 0?" else slow(60)) as server:
        outcomes = writer(server, concurrency=3).write(requests(50))
        next(outcomes)
        started = time.monotonic()
        outcomes.close()
        assert time.monotonic() - started < 20
    assert len(server.calls) <= 4


def test_the_key_goes_to_the_server_and_to_no_message() -> None:
    def script(prompt: str, time: int) -> Say:
        return refusal(401, f"key {KEY} is not valid") if prompt == "Why 1?" else refusal(500, f"{KEY} overloads us")

    with FaultyServer(script) as server, pytest.raises(TeacherUnavailable) as raised:
        outcomes = writer(server, secret=KEY, key="BIG_KEY", attempts=1, concurrency=1).write(requests(2))
        first_outcome = next(outcomes)[1]
        next(outcomes)
    assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
    assert first_outcome == Failure("HTTP 500: '*** overloads us'")
    assert "'key *** is not valid'" in str(raised.value)
    assert KEY not in "".join(map(str, (raised.value, raised.value.__cause__, first_outcome)))


def test_settings_that_the_environment_holds_for_another_server_are_not_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-another-server")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-another-server")
    with FaultyServer() as server:
        assert isinstance(only(server), Reply)
    assert "another-server" not in str(server.calls[0].headers)


def test_a_missing_key_is_named_before_any_call() -> None:
    teacher = RemoteTeacher(name="big", model="big-model", url="https://example.org/v1", key="BIG_KEY")
    with pytest.raises(MissingKey) as raised:
        key_of(teacher, {"OTHER": KEY})
    assert str(raised.value) == (
        "teacher 'big' needs a key for https://example.org/v1, but the environment variable BIG_KEY is not set. "
        "Set it and start again, or remove `key` from the teacher if the server needs none."
    )
    with pytest.raises(MissingKey, match="BIG_KEY holds characters that no key has") as raised:
        key_of(teacher, {"BIG_KEY": f"{KEY}\n{KEY}"})
    assert KEY not in str(raised.value)
    assert key_of(teacher, {"BIG_KEY": f"{KEY}\n"}) == KEY
    assert key_of(teacher.model_copy(update={"key": None}), {}) is None
