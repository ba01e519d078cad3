"""A follower beside a server: one call for each position, none twice, and what was said is kept whatever happens."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import pairs
import tiny
from faulty_server import BROKEN, BUSY, FaultyServer, Say, first, refusal
from flow.planted import Recorder
from underdog.errors import PromptTooLong, SmallModelRefused, TeacherUnavailable, TextTooShort, TokenizersDiffer
from underdog.inference.generation import Plan
from underdog.knowledge.estimate import estimate
from underdog.knowledge.store import Store
from underdog.settings import Settings
from underdog.systems.replaceable import remote, saved
from underdog.systems.replaceable.kinds import Branch, Follower, Informed, Residual
from underdog.systems.replaceable.lessons import PairObjective, RecordedBlocks
from underdog.systems.replaceable.pair import Pair
from underdog.systems.replaceable.remote import RemoteLLM
from underdog.systems.replaceable.small import Seen, join
from underdog.task.teachers import RemoteTeacher
from underdog.teachers.remote import GIVE_UP_AFTER
from underdog.teachers.retry import Backoff

TEXT = np.random.default_rng(0).integers(0, 300, 60).astype(np.uint16)
LENGTH, BLOCKS = 9, 5
POSITIONS = LENGTH * BLOCKS


def predicts(prefix: list[int]) -> int:
    """What the server's model says after a text."""
    return (7 * sum(prefix) + len(prefix)) % 300


def completion(choice: dict[str, Any]) -> Say:
    """A plain completion in the form that servers give it."""
    usage = {"prompt_tokens": 5, "completion_tokens": 1}
    return Say(body=json.dumps({"choices": [{"index": 0, "text": "", "finish_reason": "length"} | choice], "usage": usage}))


def numbered(token: int) -> Say:
    """As llama.cpp says it."""
    return completion({"text": "?", "logprobs": {"content": [{"id": token, "token": "?"}]}})


def serving(prompt: str, time: int) -> Say:
    return numbered(predicts(json.loads(prompt)))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "knowledge.sqlite") as opened:
        yield opened


@pytest.fixture(scope="module")
def part_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.write_llama(tmp_path_factory.mktemp("parts") / "small", layers=1, hidden_size=16, seed=5)


@pytest.fixture
def small(part_folder: Path) -> remote.FollowerSmall:
    made = join(Follower(), tiny.load(part_folder), None)
    assert isinstance(made, remote.FollowerSmall)
    return made


@pytest.fixture
def connect(store: Store, small: remote.FollowerSmall, tmp_path: Path) -> Callable[..., RemoteLLM]:
    def connecting(server: FaultyServer, **fields: Any) -> RemoteLLM:
        teacher = RemoteTeacher(**{"name": "big", "model": "big-model", "url": server.url, "attempts": 2} | fields)
        return RemoteLLM.connect(teacher, small.part, store, Settings(cache=tmp_path), backoff=Backoff(0.0))

    return connecting


def test_every_position_is_asked_once_and_never_again(connect, small, store):
    with FaultyServer(serving) as server:
        recorded = remote.record(connect(server), small, TEXT, LENGTH, blocks=BLOCKS)
        assert len(server.calls) == POSITIONS
        again = remote.record(connect(server), small, TEXT, LENGTH, blocks=BLOCKS)
        more = remote.record(connect(server), small, TEXT, LENGTH, blocks=BLOCKS + 1)
        assert len(server.calls) == POSITIONS + LENGTH
    lessons = RecordedBlocks(recorded, TEXT)
    batch = lessons.batch(range(BLOCKS))
    for row in range(BLOCKS):
        block = TEXT[row * LENGTH : (row + 1) * LENGTH].tolist()
        assert batch.tokens[row].tolist() == block
        assert batch.predicted[row].tolist() == [predicts(block[: at + 1]) for at in range(LENGTH)]
    assert torch.equal(RecordedBlocks(again, TEXT).batch(range(BLOCKS)).predicted, batch.predicted)
    assert len(more.starts) == BLOCKS + 1
    assert sum(count.records for count in store.counts()) == POSITIONS + LENGTH


def test_calls_ask_for_one_token_after_token_numbers_each_with_a_seed_of_its_own(connect, small):
    with FaultyServer(serving) as server:
        remote.record(connect(server), small, TEXT, LENGTH, blocks=1)
    call = max(server.calls, key=lambda call: len(call.prompt))
    assert call.path == "/v1/completions"
    assert call.wanted["prompt"] == TEXT[:LENGTH].tolist()
    assert (call.wanted["max_tokens"], call.wanted["temperature"], call.wanted["model"]) == (1, 1.0, "big-model")
    assert len({call.wanted["seed"] for call in server.calls}) == LENGTH


def test_the_cost_is_known_before_anything_is_asked(connect, small, store):
    with FaultyServer(serving) as server:
        llm = connect(server)
        requests = remote.requests_for(llm, small.kind, TEXT, [0, LENGTH], LENGTH, "0")
        assert estimate(requests, store, llm.teacher).calls == 2 * LENGTH
        remote.record(llm, small, TEXT, LENGTH, blocks=1)
        assert estimate(requests, store, llm.teacher).calls == LENGTH


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"text": "", "finish_reason": "stop"}, "end"),
        ({"text": "x", "logprobs": {"tokens": ["token_id:77"]}}, 77),
        ({"text": "x"}, "x"),
        ({"text": "x", "logprobs": {"content": [{"token": "x"}]}}, "x"),
    ],
)
def test_servers_name_tokens_in_several_ways(connect, small, choice, expected):
    with FaultyServer(lambda prompt, time: completion(choice)) as server:
        recorded = remote.record(connect(server), small, TEXT, LENGTH, blocks=1)
    tokens = small.part.encode(["x"])[0]
    wanted = {"end": small.part.end, "x": tokens[0]}.get(expected, expected)
    assert recorded.rows([0]).tolist() == [[wanted] * LENGTH]


@pytest.mark.parametrize("choice", [{"text": " quite another text"}, {"logprobs": {"content": [{"id": 50_000}]}}])
def test_a_server_with_another_tokenizer_is_refused(connect, small, choice):
    with FaultyServer(lambda prompt, time: completion(choice)) as server, pytest.raises(TokenizersDiffer) as raised:
        remote.record(connect(server), small, TEXT, LENGTH, blocks=1)
    assert "which is no single one of the small model's 380 tokens" in str(raised.value)
    assert "A follower needs a server with the same tokenizer" in str(raised.value)


def test_when_the_server_disappears_everything_said_is_kept_and_the_same_call_goes_on(connect, small, store):
    served = Counter[str]()

    def dying(prompt: str, time: int) -> Say:
        if served.total() >= 20:
            return BROKEN
        served[prompt] += 1
        return serving(prompt, time)

    with FaultyServer(dying) as server, pytest.raises(TeacherUnavailable) as raised:
        remote.record(connect(server, concurrency=2), small, TEXT, LENGTH, blocks=BLOCKS)
    assert "Everything said so far is kept; the same command goes on from here." in str(raised.value)
    assert GIVE_UP_AFTER == 20
    assert sum(count.records for count in store.counts()) == 20
    with FaultyServer(serving) as server:
        recorded = remote.record(connect(server), small, TEXT, LENGTH, blocks=BLOCKS)
        assert len(server.calls) == POSITIONS - 20
        assert not served.keys() & {call.prompt for call in server.calls}
    assert len(recorded.starts) == BLOCKS


def test_a_server_that_is_not_there_is_named(connect, small):
    with FaultyServer(serving) as server:
        llm = connect(server)
    with pytest.raises(TeacherUnavailable, match=r"no connection to the server: .* Look after the server at http://127"):
        remote.record(llm, small, TEXT, LENGTH, blocks=BLOCKS)


def test_blocks_with_a_call_that_was_given_up_are_left_out_and_counted(connect, small):
    bad = json.dumps(TEXT[:3].tolist())
    progress = Recorder()
    with FaultyServer(lambda prompt, time: refusal(400, "no") if prompt == bad else first(BUSY, then=serving(prompt, time))(prompt, time)) as server:  # fmt: skip # noqa: E501
        recorded = remote.record(connect(server), small, TEXT, LENGTH, blocks=3, progress=progress)
    assert recorded.starts.tolist() == [LENGTH, 2 * LENGTH]
    assert "1 of 3 blocks are left out: calls for them were given up" in progress.said
    with FaultyServer(lambda prompt, time: refusal(400, "no") if prompt == bad else serving(prompt, time)) as server:
        with pytest.raises(TeacherUnavailable, match="of 1 blocks none was predicted whole"):
            remote.record(connect(server), small, TEXT, LENGTH, blocks=1)
        with pytest.raises(TextTooShort, match="the text has 5 tokens, and one block takes 10"):
            remote.record(connect(server), small, TEXT[:5], LENGTH, blocks=1)


@pytest.mark.parametrize("kind", [Follower(), Informed(start=0.5)])
def test_texts_are_written_with_one_prediction_a_token_as_if_everything_were_recomputed(connect, part_folder, kind):
    small = pairs.stirred(join(kind, tiny.load(part_folder), None))
    pair = Pair(None, small)
    prompts = [[5, 6, 7], [8], [9, 10]]
    plans = [Plan(6, seed=str(row)) for row in range(3)]
    expected = []
    for prompt in prompts:
        text = list(prompt)
        while len(text) < len(prompt) + 6:
            drawn = [predicts(text[: at + 1]) for at in range(len(text))]
            seen = Seen(torch.tensor([text]), torch.tensor([drawn]))
            with torch.no_grad():
                text.append(int(small.logits(pair.states(seen)[0, -1:], None, small.part.logits).argmax()))
        expected.append(tuple(text[len(prompt) :]))
    with FaultyServer(serving) as server:
        llm = connect(server)
        assert [text.tokens for text in remote.write(llm, small, prompts, plans)] == expected
        calls = len(server.calls)
        assert calls == len({call.prompt for call in server.calls}) == sum(len(prompt) + 5 for prompt in prompts)
        streamed = list(remote.stream(llm, small, prompts, plans))
        assert tuple(token for row, token in streamed if row == 1) == expected[1]
        assert len(server.calls) == calls, "said once, the predictions are kept"
        with pytest.raises(PromptTooLong, match="prompt 0 has 300 tokens"):
            remote.write(llm, small, [[1] * 300], plans[:1])
    with FaultyServer(lambda prompt, time: refusal(400, "no")) as server, pytest.raises(TeacherUnavailable, match="was given up"):
        remote.write(connect(server), small, [[1, 2]], plans[:1])


def test_training_needs_the_recording_alone(connect, small):
    with FaultyServer(serving) as server:
        recorded = remote.record(connect(server), small, TEXT, LENGTH, blocks=2)
    pair = Pair(None, small)
    batch = RecordedBlocks(recorded, TEXT).batch([0, 1])
    loss = PairObjective(pair)(batch)
    loss.backward()
    assert torch.isfinite(loss) and all(parameter.grad is not None for parameter in small.parameters())


def test_a_small_model_belongs_to_its_server_and_residuals_to_none(connect, small, tmp_path):
    with FaultyServer(serving) as server:
        one, other = connect(server), connect(server, revision="2")
    saved.save(tmp_path / "small", small, one.identity, trained={})
    cutter, device = small.part.tokenizer, torch.device("cpu")
    back, _ = saved.load_for(tmp_path / "small", one.identity, None, cutter, device)
    assert back.parameter_count() == small.parameter_count()
    with pytest.raises(SmallModelRefused, match="was made for the LLM 'big-model'"):
        saved.load_for(tmp_path / "small", other.identity, None, cutter, device)
    with pytest.raises(SmallModelRefused, match="Allowed beside a remote LLM: follower, informed"):
        join(Residual(), small.part, None)
    with pytest.raises(SmallModelRefused, match="kind 'branch' works on the LLM's own hidden states"):
        join(Branch(layers=1), small.part, None)
