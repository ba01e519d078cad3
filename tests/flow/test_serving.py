"""A real server over HTTP: texts, answers, small models that come and go, and everything that can be wrong with a request."""

import json
import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import asdict
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any

import openai
import pytest

import serving
import tiny
from faulty_server import FaultyServer, Say
from flow import planted
from flow.planted import choice_rows, label_rows, settings, write_task
from flow.test_stack import TEACHERS, reasons
from flow.test_stack_found import STACK
from serving import CHAT, JSON, PROMPT, Reply, Running, Stepwise, running, until
from underdog import models
from underdog.answering import Answer, Answerer, Footprint, Question, StepTrace
from underdog.errors import TeacherUnavailable, UnderdogError
from underdog.inference.answerer import ModelAnswerer
from underdog.inference.generation import Plan
from underdog.knowledge.store import Store
from underdog.progress import Silent
from underdog.recipes.labels import default_scoring
from underdog.replacing.answerer import PairAnswerer
from underdog.runs import write_text
from underdog.serve.opening import open_served
from underdog.serve.served import One, SmallModels, single
from underdog.systems.stack.loading import load_stack
from underdog.systems.together.parts import open_system
from underdog.systems.together.plans import RemotePlan, SystemFile
from underdog.task.splits import split
from underdog.task.teachers import RemoteTeacher

LONG = {"prompt": PROMPT, "max_tokens": 60, "temperature": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    found = tmp_path_factory.mktemp("serving")
    serving.registry(found)
    return found


@pytest.fixture(scope="module")
def small(folder: Path) -> SmallModels:
    found = open_served(str(folder / "llm-small"), settings(folder), Silent())
    assert isinstance(found, SmallModels)
    found.lm.tokenizer.chat_template = CHAT
    return found


@pytest.fixture(scope="module")
def server(small: SmallModels):
    with running(small) as found:
        yield found


def alone(small: SmallModels, name: str | None, plan: Plan, prompt: str = PROMPT) -> str:
    return small.shared.write([prompt], [plan], [name])[0].text


def test_every_small_model_of_a_registry_is_served_by_its_name(server: Running, small: SmallModels) -> None:
    listed = server.call("GET", "/v1/models").json["data"]
    assert [one["id"] for one in listed] == ["llm", "follower", "informed", "residual"]
    assert [one["id"] for one in listed if one["default"]] == [small.registry.current]
    seen = set()
    for name in ("llm", "residual", "informed", "follower"):
        said = server.post("/v1/completions", {**LONG, "model": name}).json
        assert said["model"] == name
        text = said["choices"][0]["text"]
        assert text.strip() == alone(small, None if name == "llm" else name, Plan(60, seed="0:0"))
        seen.add(text)
    assert len(seen) == 4
    assert server.post("/v1/completions", LONG).json["model"] == small.registry.current


def test_a_seed_decides_every_draw_and_texts_are_counted(server: Running, small: SmallModels) -> None:
    body = {
        "model": "residual",
        "prompt": list(tiny.TEXTS[:2]),
        "max_tokens": 9,
        "temperature": 0.9,
        "top_p": 0.8,
        "seed": 5,
        "n": 2,
    }
    said = server.post("/v1/completions", body).json
    plans = [Plan(9, 0.9, 0.8, f"5:{row}") for row in range(4)]
    prompts = [tiny.TEXTS[0]] * 2 + [tiny.TEXTS[1]] * 2
    written = small.shared.write(prompts, plans, ["residual"] * 4)
    assert [one["text"].strip() for one in said["choices"]] == [one.text for one in written]
    assert [(one["index"], one["finish_reason"]) for one in said["choices"]] == list(enumerate(one.finish for one in written))
    counted = sum(map(len, small.lm.encode(tiny.TEXTS[:2]))), sum(len(one.tokens) for one in written)
    assert said["usage"] == {"prompt_tokens": counted[0], "completion_tokens": counted[1], "total_tokens": sum(counted)}
    other = (
        server.post("/v1/completions", {**body, "seed": None}).json,
        server.post("/v1/completions", {**body, "seed": None}).json,
    )
    assert other[0]["choices"] != other[1]["choices"]


def test_a_stream_adds_up_to_the_text_in_one_piece(server: Running) -> None:
    body = {"model": "informed", "prompt": list(tiny.TEXTS[:3]), "max_tokens": 30, "seed": 1, "stop": ["e"]}
    whole = server.post("/v1/completions", body).json
    reply = server.post("/v1/completions", {**body, "stream": True, "stream_options": {"include_usage": True}})
    assert reply.headers["content-type"].startswith("text/event-stream") and reply.headers["x-accel-buffering"] == "no"
    *parts, counted, done = reply.events
    assert done == "[DONE]"
    assert (counted["choices"], counted["usage"]) == ([], whole["usage"])
    texts, ends = [""] * 3, [""] * 3
    for part in parts:
        (choice,) = part["choices"]
        texts[choice["index"]] += choice["text"]
        ends[choice["index"]] = choice["finish_reason"] or ends[choice["index"]]
    assert texts == [one["text"] for one in whole["choices"]]
    assert ends == [one["finish_reason"] for one in whole["choices"]]
    assert len({part["id"] for part in parts}) == 1


def test_openais_own_client_completes_chats_streams_and_is_told_what_is_wrong(server: Running, small: SmallModels) -> None:
    client = openai.OpenAI(base_url=server.url, api_key="any", max_retries=0)
    assert {one.id for one in client.models.list()} == {"llm", "residual", "informed", "follower"}
    assert client.models.retrieve("llm").owned_by == "underdog"
    written = client.completions.create(model="residual", prompt=PROMPT, max_tokens=20, temperature=0)
    assert written.choices[0].text.strip() == alone(small, "residual", Plan(20, seed="0:0"))
    turns: Any = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is my card?"}]
    talk = "system: Be brief.\nuser: Where is my card?\nassistant:"
    chat = client.chat.completions.create(model="informed", messages=turns, max_tokens=20, temperature=0)
    expected = alone(small, "informed", Plan(20, seed="0:0"), talk)
    assert (chat.choices[0].message.content or "").strip() == expected
    assert chat.usage is not None and chat.usage.prompt_tokens == len(small.lm.encode([talk])[0])
    stream = client.chat.completions.create(model="informed", messages=turns, max_tokens=20, temperature=0, stream=True)
    parts = [chunk.choices[0] for chunk in stream]
    assert parts[0].delta.role == "assistant"
    assert "".join(part.delta.content or "" for part in parts) == chat.choices[0].message.content
    assert parts[-1].finish_reason == chat.choices[0].finish_reason
    with pytest.raises(openai.NotFoundError, match=r"no model here is called 'residul'\. Did you mean 'residual'") as missing:
        client.completions.create(model="residul", prompt="x")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError, match="the LLM reads at most 256") as long:
        client.completions.create(model="llm", prompt="card " * 400)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="the LLM reads at most 256"):
        client.completions.create(model="llm", prompt="card " * 400, stream=True)


def test_requests_at_once_to_all_small_models_get_what_they_get_alone(server: Running, small: SmallModels) -> None:
    asked = [(name, seed) for seed in range(5) for name in ("llm", "residual", "informed", "follower")]
    said: dict[tuple[str, int], str] = {}

    def ask(name: str, seed: int) -> None:
        body = {"model": name, "prompt": PROMPT, "max_tokens": 20, "seed": seed, "stream": seed % 2 == 1}
        reply = server.post("/v1/completions", body)
        parts = [reply.json] if seed % 2 == 0 else [part for part in reply.events if part != "[DONE]"]
        said[name, seed] = "".join(part["choices"][0]["text"] for part in parts)

    threads = [Thread(target=ask, args=one) for one in asked]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for name, seed in asked:
        expected = alone(small, None if name == "llm" else name, Plan(20, 1.0, seed=f"{seed}:0"))
        assert said[name, seed].strip() == expected


def test_a_text_that_is_streamed_while_its_small_model_is_swapped_finishes_with_the_old_one(folder: Path) -> None:
    made, llm = serving.Registry.opened(folder / "llm-small"), tiny.load(folder / "llm")
    slow = Stepwise(llm)
    with running(serving.small_models(made, slow)) as server:
        slow.let_go(500)
        old = server.post("/v1/completions", {**LONG, "model": "residual"}).json["choices"][0]["text"]
        new = server.post("/v1/completions", {**LONG, "model": "informed"}).json["choices"][0]["text"]
        while slow.steps.acquire(blocking=False):
            pass
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps({**LONG, "model": "residual", "stream": True}), JSON)
        slow.let_go(4)
        stream = connection.getresponse()
        first = stream.readline()
        swapped: list[Reply] = []
        swap = Thread(target=lambda: swapped.append(server.post("/v1/small-models/residual", {"from": "informed"})))
        swap.start()
        until(lambda: server.worker._waiting._changes or swapped)
        slow.let_go(4)
        swap.join(30)
        assert server.worker.writing == 1, "the text is not finished yet"
        assert (swapped[0].status, swapped[0].json["replaced"]) == (200, True)
        slow.let_go()
        parts = Reply(200, {}, first + stream.read()).events[:-1]
        connection.close()
        assert "".join(part["choices"][0]["text"] for part in parts) == old != new
        again = server.post("/v1/completions", {**LONG, "model": "residual"}).json["choices"][0]["text"]
        assert again == new, "what begins now has the new one"
        back = server.post("/v1/small-models/residual", None).json
        assert back["milliseconds"] > 0 and back["default"] is (made.current == "residual")
        assert server.post("/v1/completions", {**LONG, "model": "residual"}).json["choices"][0]["text"] == old
        verified = server.call("GET", "/v1/verify").json
        assert verified["unchanged"] is True and verified["before"] == verified["now"] == made.known.weights


def test_small_models_come_and_go_and_a_damaged_one_is_named_while_the_others_serve(tmp_path: Path) -> None:
    made, llm = serving.registry(tmp_path)
    weights = made.folder / "informed" / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-1])
    with running(serving.small_models(made, llm)) as server:
        assert {one["id"] for one in server.call("GET", "/v1/models").json["data"]} == {"llm", "residual", "follower"}
        problems = {one["name"]: one["problem"] for one in server.call("GET", "/v1/small-models").json["data"]}
        assert problems["residual"] is None and "model.safetensors is damaged" in problems["informed"]
        refused = server.post("/v1/completions", {**LONG, "model": "informed"})
        assert (refused.status, refused.error["code"]) == (404, "model_not_found")
        assert "the small model 'informed' cannot be used" in refused.error["message"]
        assert server.post("/v1/completions", {**LONG, "model": "residual"}).status == 200
        still = server.post("/v1/small-models/informed", None)
        assert (still.status, still.error["code"]) == (409, "small_model_damaged")
        weights.write_bytes(whole)
        assert server.post("/v1/small-models/informed", {"default": True}).json["default"] is True
        assert server.post("/v1/completions", LONG).json["model"] == "informed"
        kept = server.call("DELETE", "/v1/small-models/informed")
        assert (kept.status, kept.error["code"]) == (409, "is_default")
        assert "Make another one the default first" in kept.error["message"]
        assert server.post("/v1/small-models/llm", {"default": True}).json["default"] is True
        assert server.call("DELETE", "/v1/small-models/informed").json == {"name": "informed", "dropped": True}
        assert server.post("/v1/completions", {**LONG, "model": "informed"}).status == 404
        for path in ("residul", "..", "%2e%2e%2fllm"):
            wrong = server.post(f"/v1/small-models/{path}", None)
            assert wrong.status == 404 and wrong.error["code"] in ("model_not_found", "no_such_address")
        assert "Did you mean 'residual'" in server.post("/v1/small-models/residul", None).error["message"]


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> planted.Found:
    """A whole run whose winner is a vote's member as well."""
    systems = [{"kind": "vote", "name": "both", "members": ["labels", "untrained"], "how": "likelihood"}]
    file = write_task(
        tmp_path_factory.mktemp("run"), label_rows(160), systems=systems, prompt="Text: {text}\nTeam:", goal={"seeds": 1}
    )
    return planted.find(file)


def alike(said: list[dict[str, Any]], expected: list[Answer], choices: list[tuple[str, ...]]) -> None:
    """Served answers are those of the answerer, asked directly."""
    assert [(one["id"], one["text"], one["choice"]) for one in said] == [
        (one.question_id, one.text, one.choice) for one in expected
    ]
    assert [one["by"] for one in said] == [one.by for one in expected]
    for one, answer, texts in zip(said, expected, choices, strict=True):
        if not texts:
            assert one["probabilities"] is None
            continue
        wanted = {text: math.exp(value) for text, value in zip(texts, answer.log_probabilities, strict=True)}
        assert one["probabilities"] == pytest.approx(wanted, abs=1e-5)


def test_served_answers_of_a_run_are_the_evaluated_ones(labels: planted.Found) -> None:
    task = planted.load(labels.task_file)
    test = split(task).test.open(reason="test")
    rows = [{name: value for name, value in example.row.items() if name != "label"} for example in test]
    assert labels.verdict.winner_folder is not None
    lm = models.load(str(labels.folder / labels.verdict.winner_folder), task.settings)
    student = ModelAnswerer(lm, scoring=default_scoring(True), precision="float32")
    with running(open_served(str(labels.folder), task.settings, Silent())) as server:
        said = server.post("/v1/answers", {"questions": rows}).json
        assert said["model"] == Path(labels.verdict.winner_folder).name
        expected = student.answer([example.question for example in test])
        alike(said["answers"], expected, [example.question.choices for example in test])
        (kept,) = (labels.folder / "test").glob(f"{said['model']}.json")
        assert [one["text"] for one in said["answers"]] == [text for _, text, _, _ in json.loads(kept.read_text())]
        accuracy = sum(one["text"] == example.answer for one, example in zip(said["answers"], test, strict=True)) / len(test)
        assert accuracy == pytest.approx(next(one.quality.mean for one in labels.verdict.contenders if one.role == "finalist"))
        as_text = [{"id": row["id"], "prompt": f"Text: {row['text']}"} for row in rows]
        assert server.post("/v1/answers", {"questions": as_text}).json["answers"] == said["answers"]
        wrong = server.post("/v1/answers", {"questions": [rows[0], {"txt": "x"}]})
        assert (wrong.status, wrong.error["param"]) == (400, "questions[1]")
        assert "questions[1]: field 'text' is missing. Did you mean 'txt'?" in wrong.error["message"]
        twice = server.post("/v1/answers", {"questions": [rows[0], rows[0]]})
        assert "the id" in twice.error["message"] and "Give each its own" in twice.error["message"]


def test_served_answers_of_a_system_are_the_evaluated_ones(labels: planted.Found) -> None:
    task = planted.load(labels.task_file)
    (place,) = (labels.folder / "systems").iterdir()
    questions = [example.question for example in split(task).valid]
    rows = [{"id": example.id, "text": example.row["text"]} for example in split(task).valid]
    with running(open_served(str(place), task.settings, Silent())) as server:
        said = server.post("/v1/answers", {"model": "both", "questions": rows}).json["answers"]
        alike(said, open_system(place, task.settings).answer(questions), [one.choices for one in questions])
        refused = server.post("/v1/completions", {"prompt": "x"})
        assert (refused.status, refused.error["code"]) == (400, "no_texts")
        assert "both answers questions and writes no texts of its own. Ask it at /v1/answers." in refused.error["message"]
        assert server.call("GET", "/v1/verify").error["code"] == "no_registry"


def test_a_stack_found_in_a_run_is_served_with_what_its_steps_wrote(tmp_path: Path) -> None:
    rows = label_rows(160)
    planted.write_rows(tmp_path / "why.jsonl", reasons(rows[:155]))
    fields = {"teachers": TEACHERS, "systems": [STACK], "training": {"epochs": 1, "precision": "float32"}, "goal": {"seeds": 1}}
    found = planted.find(write_task(tmp_path, rows, **fields))
    (place,) = (found.folder / "stacks").iterdir()
    examples = split(planted.load(found.task_file)).valid
    asked = [{"id": example.id, "text": example.row["text"]} for example in examples]
    with running(open_served(str(place), settings(tmp_path), Silent())) as server:
        said = server.post("/v1/answers", {"model": "chain", "questions": asked}).json["answers"]
    expected = load_stack(place, settings(tmp_path)).answer([example.question for example in examples])
    alike(said, expected, [example.question.choices for example in examples])
    for one, answer, row in zip(said, expected, asked, strict=True):
        assert one["trace"] == [asdict(step) for step in answer.trace]
        assert [step["step"] for step in one["trace"]] == ["keywords", "intermediate", "answer"]
        assert one["trace"][0]["text"] == row["text"].split()[0]


def test_a_model_of_elsewhere_answers_with_a_task_file_or_with_prompts(tmp_path: Path) -> None:
    file = write_task(tmp_path, choice_rows(30), fields={}, choices="choices")
    task = planted.load(file)
    examples = split(task).valid
    lm = tiny.load(tmp_path / "model")
    with running(open_served(str(tmp_path / "model"), task.settings, Silent(), task=file)) as server:
        said = server.post("/v1/answers", {"questions": [dict(example.row) for example in examples]}).json["answers"]
        expected = ModelAnswerer(lm, scoring="sum", precision="float32").answer([example.question for example in examples])
        alike(said, expected, [example.question.choices for example in examples])
    with running(open_served(str(tmp_path / "model"), task.settings, Silent())) as server:
        bare = [{"prompt": "Is my card new?", "cue": "\nSay:", "choices": ["yes", "no"]}, {"id": "q", "prompt": "Why?"}]
        said = server.post("/v1/answers", {"questions": bare}).json["answers"]
        asked = [Question("0", "Is my card new?", "\nSay:", ("yes", "no")), Question("q", "Why?")]
        alike(said, single(lm, None).answer(asked), [("yes", "no"), ()])
        assert [one["probabilities"] is None for one in said] == [False, True]
        wrong = server.post("/v1/answers", {"questions": [{"prompt": "x", "choises": []}]}).error
        assert "questions[0]: there is no field 'choises' here. Did you mean 'choices'?" in wrong["message"]
        long = server.post("/v1/answers", {"questions": [{"prompt": "card " * 400, "choices": ["a", "b"]}]}).json["answers"]
        assert long[0]["text"] is None and "are more than the model's 256 positions" in long[0]["problem"]
        refused = server.post("/v1/chat/completions", {"messages": [{"role": "user", "content": "x"}]})
        assert (refused.status, refused.error["code"]) == (400, "no_chat_template")
        assert "has no chat template" in refused.error["message"]


def test_a_small_model_answers_as_its_pair_does(server: Running, small: SmallModels) -> None:
    questions = [{"prompt": text, "choices": ["card arrival", "exchange rate"]} for text in tiny.TEXTS[:4]]
    asked = [Question(str(number), text, choices=("card arrival", "exchange rate")) for number, text in enumerate(tiny.TEXTS[:4])]
    for name in ("residual", "follower"):
        said = server.post("/v1/answers", {"model": name, "questions": questions}).json["answers"]
        expected = PairAnswerer(small.shared.pair(name), name, scoring="sum").answer(asked)
        alike(said, expected, [one.choices for one in asked])


class Chain:
    """An answerer with a trace, whose server is away for one question."""

    name = "chain"

    def answer(self, questions: Any) -> list[Answer]:
        if any(question.prompt == "away" for question in questions):
            raise TeacherUnavailable("the server at x is away. Start it.")
        if any(question.prompt == "broken" for question in questions):
            raise RuntimeError("secret text")
        steps = (StepTrace("keywords", "card", "stop", 2), StepTrace("answer", "yes", "chosen"))
        return [Answer(one.id, "yes", confidence=0.5, by="big", problem="odd", trace=steps) for one in questions]

    def footprint(self) -> Footprint:
        return Footprint(5, 5, 5)


def test_who_answered_how_and_what_was_odd_is_told_and_faults_below_have_their_status(capfd: pytest.CaptureFixture[str]) -> None:
    chain = Chain()
    assert isinstance(chain, Answerer)
    with running(One("chain", chain, None)) as server:
        (said,) = server.post("/v1/answers", {"questions": [{"prompt": "x"}]}).json["answers"]
        assert said == {
            "id": "0", "text": "yes", "choice": None, "probabilities": None, "confidence": 0.5, "by": "big", "problem": "odd",
            "trace": [
                {"step": "keywords", "text": "card", "finish": "stop", "shortened": 2},
                {"step": "answer", "text": "yes", "finish": "chosen", "shortened": 0},
            ],
        }  # fmt: skip
        away = server.post("/v1/answers", {"questions": [{"prompt": "away"}]})
        assert (away.status, away.error["type"], away.error["code"]) == (502, "server_error", "server_unreachable")
        broken = server.post("/v1/answers", {"questions": [{"prompt": "broken"}]})
        assert (broken.status, broken.error["code"]) == (500, "failed")
        assert "secret" not in broken.error["message"] and "RuntimeError" in broken.error["message"]
        assert server.call("GET", "/health").json["status"] == "ok"
        until(lambda: len(server.log) == 4)
        assert [line.split()[2] for line in server.log] == ["200", "502", "500", "200"]
    assert "RuntimeError" in capfd.readouterr().err


def test_a_server_behind_a_system_is_asked_below_its_cap_and_nothing_twice(tmp_path: Path) -> None:
    file = write_task(tmp_path, choice_rows(30), fields={}, choices="choices")
    task = planted.load(file)
    asked = {"questions": [dict(example.row) for example in split(task).valid]}
    prices = {"usd_per_million_input": 1e5, "usd_per_million_output": 0.0}
    with FaultyServer(lambda prompt, time: Say("The answer is A.")) as far:
        fields = {"name": "far", "model": "far-model", "url": far.url, "prices": prices, "cap_usd": 1e4}
        plan = RemotePlan(name="far", teacher=RemoteTeacher.model_validate(fields), max_new_tokens=8)
        folder = tmp_path / "run" / "systems" / "0123456789abcdef"
        write_text(folder / "system.json", SystemFile(system=plan).model_dump_json())
        with pytest.raises(
            UnderdogError, match=r"'far' has a cap on spending.* Name its file \(`underdog serve \.\.\. --task FILE`"
        ):
            open_served(str(folder), task.settings, Silent())
        with running(open_served(str(folder), task.settings, Silent(), task=file)) as server:
            said = [server.post("/v1/answers", asked).json["answers"] for _ in range(2)]
            calls = len(far.calls)
            assert calls == len({example.question.prompt for example in split(task).valid})
            assert said[0] == said[1] and {one["choice"] for one in said[0]} == {0}
            with Store.open(tmp_path / "knowledge.sqlite") as store, store.claimed("far-model ", lambda: None):
                new = server.post("/v1/answers", {"questions": [{"prompt": "While another asks?", "choices": ["a", "b"]}]})
            assert new.json["answers"][0]["choice"] == 0, "a server does not wait for another process"
            calls += 1
        write_text(folder / "system.json", SystemFile(system=plan).model_dump_json().replace("10000.0", "1e-6"))
        with running(open_served(str(folder), task.settings, Silent(), task=file)) as server:
            new = server.post("/v1/answers", {"questions": [{"prompt": "Another?", "choices": ["a", "b"]}]})
            assert (new.status, new.error["code"]) == (502, "spending_cap_reached")
            assert len(far.calls) == calls


def test_a_key_is_needed_where_one_is_set_and_health_is_open(small: SmallModels) -> None:
    with running(small, key="s3cret") as server:
        assert server.call("GET", "/v1/models", headers={"Authorization": "Bearer s3cret", "Host": "any.name"}).status == 200
        assert server.call("GET", "/health").status == 200
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "s3cret"}, {"Authorization": "Bearer s3cretx"}):
            refused = server.call("GET", "/v1/models", headers=headers)
            assert (refused.status, refused.error["type"]) == (401, "authentication_error")
            assert "The key" in refused.error["message"].capitalize() and "s3cret" not in refused.error["message"]
            assert refused.headers["www-authenticate"] == "Bearer"
        assert server.call("GET", "/v1/models", headers={"Authorization": "Bearer s3cret"}).status == 200
        assert next(iter(openai.OpenAI(base_url=server.url, api_key="s3cret").models.list())).id == "llm"


@pytest.mark.parametrize(
    ("host", "status"),
    [("localhost:8000", 200), ("127.0.0.1", 200), ("[::1]:8000", 200), ("api.localhost", 200), ("evil.example:8000", 403),
     ("localhost.evil.example", 403), ("127.0.0.1.evil.example", 403)],
)  # fmt: skip
def test_without_a_key_no_web_page_can_ask_by_a_name_of_its_own(server: Running, host: str, status: int) -> None:
    said = server.post("/v1/completions", {"prompt": PROMPT, "max_tokens": 1}, {"Host": host})
    assert said.status == status
    if status == 403:
        assert (said.error["code"], said.error["type"]) == ("strange_host", "invalid_request_error")
        assert f"and was asked as {host!r}. Ask localhost, or start it with --key-from" in said.error["message"]


def test_what_is_no_request_is_refused_in_openais_shape(server: Running) -> None:
    broken = server.post("/v1/completions", b'{"prompt": ')
    assert (broken.status, broken.error["code"], broken.error["type"]) == (400, "invalid_json", "invalid_request_error")
    text = server.post("/v1/completions", b'{"prompt": "x"}', {"Content-Type": "text/plain"})
    assert (text.status, text.error["code"]) == (415, "no_json")
    nowhere = server.call("GET", "/v1/completion")
    assert nowhere.status == 404 and "There are: /health, /v1/models" in nowhere.error["message"]
    wrong = server.call("GET", "/v1/completions")
    assert wrong.status == 405 and wrong.error["message"].startswith("GET /v1/completions: method not allowed.")
    many = server.post("/v1/completions", {"prompt": ["x"] * 9, "n": 2})
    assert (many.status, many.error["param"]) == (400, "n") and "18 texts are asked for" in many.error["message"]
    empty = server.post("/v1/completions", {"prompt": ""})
    assert empty.status == 400 and "the text '' has no token that the model knows" in empty.error["message"]


def test_a_body_beyond_the_limit_is_not_read(server: Running) -> None:
    announced = server.post("/v1/completions", b"{}", {"Content-Length": str(5 * 2**20)})
    assert (announced.status, announced.error["code"]) == (413, "too_long")
    connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
    parts = (b"x" * 2**16 for _ in range(80))
    try:
        connection.request("POST", "/v1/completions", parts, JSON, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # it closed before all was sent
    finally:
        connection.close()
    assert server.call("GET", "/health").status == 200


def test_a_full_server_says_when_to_come_back_and_clients_that_go_free_their_places(small: SmallModels) -> None:
    slow = Stepwise(small.lm)
    with running(One("m", single(slow, None), None), rows=1, places=1) as server:
        clients = [HTTPConnection("127.0.0.1", server.port, timeout=60) for _ in range(2)]
        try:
            clients[0].request("POST", "/v1/completions", json.dumps({**LONG, "max_tokens": 150, "stream": True}), JSON)
            slow.let_go(3)
            stream = clients[0].getresponse()
            assert stream.readline().startswith(b"data: ")
            clients[1].request("POST", "/v1/completions", json.dumps(LONG), JSON)
            until(lambda: server.worker.waiting == 1)
            full = server.post("/v1/completions", LONG)
            assert (full.status, full.error["code"], full.error["type"]) == (503, "busy", "server_error")
            assert full.headers["retry-after"] == "1"
            stream.close()
            for client in clients:
                client.close()
            until(lambda: all(one.left for one in server.worker._waiting._texts))
            slow.let_go()
            until(lambda: (server.worker.writing, server.worker.waiting) == (0, 0))
            assert server.post("/v1/completions", LONG).status == 200
        finally:
            slow.let_go()
        until(lambda: any(" 499 " in line for line in server.log))


def test_a_stream_that_is_not_finished_when_the_server_ends_is_told_so(
    small: SmallModels, capfd: pytest.CaptureFixture[str]
) -> None:
    slow = Stepwise(small.lm)
    with running(One("m", single(slow, None), None), finishing_s=0.1) as server:
        connection = HTTPConnection("127.0.0.1", server.port, timeout=60)
        connection.request("POST", "/v1/completions", json.dumps({**LONG, "max_tokens": 150, "stream": True}), JSON)
        slow.let_go(3)
        stream = connection.getresponse()
        assert stream.readline().startswith(b"data: ")
        letting = Thread(target=lambda: (until(lambda: server.worker._waiting._is_closed), slow.let_go()))
        letting.start()
    letting.join()
    last = Reply(200, {}, stream.read().lstrip()).events[-1]
    assert last["error"]["code"] == "stopping" and "the server is stopping" in last["error"]["message"]
    connection.close()
    assert "Traceback" not in capfd.readouterr().err


def test_the_log_has_a_line_for_each_request_and_no_text(small: SmallModels) -> None:
    with running(small) as server:
        server.post("/v1/completions", {"prompt": "my secret", "max_tokens": 2})
        server.post("/v1/completions", {"prompt": "my secret", "max_tokens": 2, "stream": True})
        server.call("GET", "/v1/models/a%0Ab")
        until(lambda: len(server.log) == 3)
        assert all(re.fullmatch(r"(GET|POST) \S+ \d+ \d+ ms", line) for line in server.log)
        assert server.log[2].startswith("GET /v1/models/a%0Ab 404 ")


def test_the_command_serves_until_it_is_stopped(folder: Path) -> None:
    arguments = ["serve", str(folder / "llm"), "--registry", str(folder / "llm-small"), "--port", "0", "--key-from", "A_KEY"]
    here = {"UNDERDOG_CACHE": str(folder), "UNDERDOG_OFFLINE": "1", "UNDERDOG_THREADS": "1", "A_KEY": "abc"}
    environment = os.environ | here | {"PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-m", "underdog.cli", *arguments], env=environment, stderr=subprocess.PIPE, text=True
    )  # fmt: skip
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if line.startswith("Serving "))
        found = re.search(r"at http://127\.0\.0\.1:(\d+)/v1\. Ctrl-C ends it\.", line)
        assert found is not None and "(default)" in line and "llm" in line
        client = openai.OpenAI(base_url=f"http://127.0.0.1:{found[1]}/v1", api_key="abc")
        assert len(client.completions.create(model="llm", prompt=PROMPT, max_tokens=5).choices) == 1
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(60) == 0
        assert rest.splitlines()[-1] == "Stopped." and "Traceback" not in rest and "abc" not in rest
    finally:
        process.kill()
        process.wait()
