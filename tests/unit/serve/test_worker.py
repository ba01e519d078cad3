"""The thread that owns the models: what arrives together is done together, and nobody spoils anybody's request."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from copy import deepcopy
from typing import Any

import pytest

import serving
import tiny
from serving import PROMPT, Stepwise, until
from underdog.answering import Answer, Answerer, Footprint, Question
from underdog.errors import OutOfMemory, PromptTooLong, RequestRefused
from underdog.inference.generation import Plan
from underdog.inference.growing import Piece
from underdog.models import LanguageModel
from underdog.serve import batch
from underdog.serve.batch import Begun, Ended, Event, Failed, Texts
from underdog.serve.served import One, SmallModels, single
from underdog.serve.worker import Worker


class Told:
    """A client that remembers what it is told."""

    def __init__(self, model: str, prompts: Sequence[str], plans: Sequence[Plan]) -> None:
        self.events: list[Event] = []
        self.texts = Texts(model, lambda lm: lm.encode(prompts), plans, self.events.append)

    @property
    def said(self) -> list[str]:
        rows = range(len(self.texts.plans))
        return ["".join(one.text for one in self.events if isinstance(one, Piece) and one.row == row) for row in rows]

    @property
    def is_over(self) -> bool:
        ended = sum(isinstance(one, Ended) for one in self.events)
        return ended == len(self.texts.plans) or any(isinstance(one, Failed) for one in self.events)

    @property
    def error(self) -> Exception:
        (found,) = [one.error for one in self.events if isinstance(one, Failed)]
        return found


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> SmallModels:
    return serving.small_models(*serving.registry(tmp_path_factory.mktemp("registry")))


@pytest.fixture
def worker(served: SmallModels):
    worker = Worker(served, rows=8, places=4)
    worker.start()
    yield worker
    worker.stop()


def plan(number: int = 0, **fields: Any) -> Plan:
    return Plan(**({"max_tokens": 12, "temperature": 1.0, "seed": f"3:{number}"} | fields))


def write_all(worker: Worker, clients: Sequence[Told]) -> None:
    """Have a worker find all these texts waiting when it starts, and stop it when they are written."""
    for client in clients:
        worker.write(client.texts)
    worker.start()
    try:
        until(lambda: all(client.is_over for client in clients))
    finally:
        worker.stop()


def test_what_waits_is_written_in_one_batch_that_mixes_small_models(served: SmallModels, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = batch.stream_batch

    def counting(lm: LanguageModel, prompts: Any, *others: Any):
        sizes.append(len(prompts))
        return original(lm, prompts, *others)

    monkeypatch.setattr(batch, "stream_batch", counting)
    names = ["residual", "llm", "informed", "follower"]
    clients = [Told(name, tiny.TEXTS[number : number + 2], [plan(0), plan(1)]) for number, name in enumerate(names)]
    worker = Worker(served, rows=8)
    write_all(worker, clients)
    assert sizes == [8]
    for number, (name, client) in enumerate(zip(names, clients, strict=True)):
        row = None if name == "llm" else name
        written = served.shared.write(tiny.TEXTS[number : number + 2], [plan(0), plan(1)], [row, row])
        assert [text.strip() for text in client.said] == [one.text for one in written]
        ends = {one.row: one for one in client.events if isinstance(one, Ended)}
        assert [(ends[row].finish, ends[row].tokens) for row in (0, 1)] == [(one.finish, len(one.tokens)) for one in written]
        lengths = tuple(map(len, served.lm.encode(tiny.TEXTS[number : number + 2])))
        assert client.events[0] == Begun(lengths)


def test_a_text_ends_before_its_stop_text(worker: Worker, served: SmallModels) -> None:
    whole = Told("llm", [PROMPT], [plan(max_tokens=40)])
    worker.write(whole.texts)
    until(lambda: whole.is_over)
    stop = whole.said[0][9:12]
    cut = Told("llm", [PROMPT], [plan(max_tokens=40, stop=(stop,))])
    worker.write(cut.texts)
    until(lambda: cut.is_over)
    assert cut.said[0] == whole.said[0][: whole.said[0].index(stop)]
    (end,) = [one for one in cut.events if isinstance(one, Ended)]
    assert end.finish == "stop" and end.tokens < 40


def test_a_prompt_that_is_too_long_is_refused_and_its_neighbours_are_written(worker: Worker) -> None:
    bad, good = Told("llm", [" ".join(tiny.TEXTS * 9)], [plan()]), Told("residual", [PROMPT], [plan()])
    worker.write(bad.texts)
    worker.write(good.texts)
    until(lambda: bad.is_over and good.is_over)
    assert isinstance(bad.error, PromptTooLong) and bad.events == [Failed(bad.error)]
    assert len(good.said[0]) > 0


def test_a_batch_beyond_the_memory_is_written_in_halves_and_one_text_beyond_it_is_refused(served: SmallModels) -> None:
    class Small(LanguageModel):
        """A model with memory for two short texts."""

        def hidden(self, tokens: Any, *others: Any, **named: Any) -> Any:
            if tokens.shape[0] > 2 or tokens.shape[1] > 60:
                raise RuntimeError("CUDA out of memory")
            return super().hidden(tokens, *others, **named)

    lm = Small(served.lm.name, served.lm.model, served.lm.tokenizer)
    worker = Worker(One("m", single(lm, None), None))
    clients = [Told("m", [text], [plan()]) for text in tiny.TEXTS[:3]] + [Told("m", [" ".join(tiny.TEXTS * 2)], [plan()])]
    write_all(worker, clients)
    written = served.shared.write(tiny.TEXTS[:3], [plan()] * 3, [None] * 3)
    assert [client.said[0].strip() for client in clients[:3]] == [one.text for one in written]
    assert isinstance(clients[3].error, OutOfMemory)
    assert "Ask for fewer tokens (max_tokens), or send a shorter prompt." in str(clients[3].error)


def test_a_prompt_that_a_model_fails_on_fails_alone(served: SmallModels) -> None:
    tokenizer = deepcopy(served.lm.tokenizer)
    tokenizer.add_tokens(["<beyond>"])
    lm = LanguageModel(served.lm.name, served.lm.model, tokenizer)  # its token table has no row for the new token
    clients = [Told("m", [text], [plan()]) for text in (*tiny.TEXTS[:2], "<beyond>", tiny.TEXTS[2])]
    write_all(Worker(One("m", single(lm, None), None)), clients)
    assert isinstance(clients.pop(2).error, IndexError)
    written = served.shared.write(tiny.TEXTS[:3], [plan()] * 3, [None] * 3)
    assert [client.said[0].strip() for client in clients] == [one.text for one in written]


def test_a_text_that_cannot_be_read_back_fails_and_the_next_is_written(served: SmallModels) -> None:
    class Stammering:
        """A tokenizer that fails on the first token of all."""

        failed = False

        def __getattr__(self, name: str) -> Any:
            return getattr(served.lm.tokenizer, name)

        def __call__(self, *args: Any, **named: Any) -> Any:
            return served.lm.tokenizer(*args, **named)

        def decode(self, *args: Any, **named: Any) -> str:
            if not self.failed:
                self.failed = True
                raise ValueError("no such token")
            return served.lm.tokenizer.decode(*args, **named)

    worker = Worker(One("m", single(LanguageModel("m", served.lm.model, Stammering()), None), None))
    worker.start()
    try:
        for client in (bad := Told("m", [PROMPT], [plan()]), good := Told("m", [PROMPT], [plan()])):
            worker.write(client.texts)
            until(lambda client=client: client.is_over)
    finally:
        worker.stop()
    assert isinstance(bad.error, ValueError)
    assert good.said[0].strip() == served.shared.write([PROMPT], [plan()], [None])[0].text


def test_the_least_temperature_and_share_write_the_likeliest_text_and_spoil_no_neighbour(served: SmallModels) -> None:
    plans = [plan(temperature=0.0), plan(temperature=1e-50), plan(temperature=1e-40), plan(top_p=1e-50)]
    clients = [Told("llm", [PROMPT], [one]) for one in plans]
    write_all(Worker(served), clients)
    assert len({client.said[0] for client in clients}) == 1 and clients[0].said[0]


def test_texts_nobody_waits_for_leave_and_make_room(served: SmallModels) -> None:
    lm = Stepwise(served.lm)
    worker = Worker(One("m", single(lm, None), None), rows=2)
    worker.start()
    try:
        gone, stays, waits = (Told("m", [PROMPT], [plan(max_tokens=60)]) for _ in range(3))
        for client in (gone, stays, waits):
            worker.write(client.texts)
        lm.let_go(3)
        until(lambda: any(isinstance(one, Piece) for one in gone.events))
        assert (worker.writing, worker.waiting) == (2, 1)
        gone.texts.left = True
        lm.let_go(3)
        until(lambda: waits.events)
        assert not gone.is_over
        lm.let_go()
        until(lambda: stays.is_over and waits.is_over)
        assert not gone.is_over
        assert stays.said == waits.said
    finally:
        lm.let_go()
        worker.stop()


def test_one_that_never_began_is_forgotten_when_its_client_goes(served: SmallModels) -> None:
    lm = Stepwise(served.lm)
    worker = Worker(One("m", single(lm, None), None), rows=1)
    worker.start()
    try:
        first, gone, last = (Told("m", [PROMPT], [plan()]) for _ in range(3))
        worker.write(first.texts)
        until(lambda: first.events)
        worker.write(gone.texts)
        worker.write(last.texts)
        gone.texts.left = True
        lm.let_go()
        until(lambda: last.is_over)
        assert gone.events == []
    finally:
        lm.let_go()
        worker.stop()


class Scripted:
    """An answerer that waits for the test, and fails on a certain question."""

    name = "scripted"

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.go_on = threading.Event()

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        self.asked.append(len(questions))
        assert self.go_on.wait(30)
        if any(question.prompt == "bad" for question in questions):
            raise OutOfMemory("no")
        return [Answer(question.id, question.prompt.upper()) for question in questions]

    def footprint(self) -> Footprint:
        return Footprint(1, 1, 1)


def test_questions_that_wait_are_answered_together_and_one_that_fails_fails_alone() -> None:
    scripted = Scripted()
    assert isinstance(scripted, Answerer)
    worker = Worker(One("s", scripted, None), places=6)
    worker.start()
    try:
        futures: list[Future[list[Answer]]] = [worker.answer("s", [Question("0", "first")])]
        until(lambda: scripted.asked == [1])
        for texts in (["a", "b"], ["c"], ["bad"], ["d"]):
            futures.append(worker.answer("s", [Question("0", text) for text in texts]))
        futures[2].cancel()
        scripted.go_on.set()
        assert [[one.text for one in futures[number].result(30)] for number in (0, 1, 4)] == [["FIRST"], ["A", "B"], ["D"]]
        with pytest.raises(OutOfMemory):
            futures[3].result(30)
        assert scripted.asked == [1, 4, 2, 1, 1]
    finally:
        scripted.go_on.set()
        worker.stop()


def test_where_all_places_are_taken_a_request_is_refused_and_at_the_end_all_are() -> None:
    scripted = Scripted()
    worker = Worker(One("s", scripted, None), places=2)
    worker.start()
    first = worker.answer("s", [Question("0", "first")])
    until(lambda: scripted.asked == [1])
    waiting = [worker.answer("s", [Question("0", "x")]) for _ in range(2)]
    with pytest.raises(RequestRefused, match=r"the server is busy: 2 requests wait already\. Ask again in a moment\.") as raised:
        worker.answer("s", [Question("0", "x")])
    assert (raised.value.status, raised.value.code) == (503, "busy")
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    for one in waiting:
        with pytest.raises(RequestRefused, match="the server is stopping"):
            one.result(30)
    scripted.go_on.set()
    assert first.result(30)[0].text == "FIRST"
    stopping.join(30)
    with pytest.raises(RequestRefused, match="the server is stopping"):
        worker.answer("s", [Question("0", "x")])


def test_those_that_have_gone_take_no_place_and_changes_have_places_of_their_own() -> None:
    scripted = Scripted()
    worker = Worker(One("s", scripted, None), places=2)
    worker.start()
    try:
        worker.answer("s", [Question("0", "first")])
        until(lambda: scripted.asked == [1])
        gone, text = worker.answer("s", [Question("0", "x")]), Told("s", [PROMPT], [plan()])
        worker.write(text.texts)
        gone.cancel()
        text.texts.left = True
        assert worker.waiting == 0
        stays = [worker.answer("s", [Question("0", "y")]) for _ in range(2)]
        with pytest.raises(RequestRefused, match="the server is busy"):
            worker.answer("s", [Question("0", "x")])
        changes = [worker.act(lambda: "done") for _ in range(2)]
        with pytest.raises(RequestRefused, match="the server is busy: 2 changes wait already"):
            worker.act(lambda: "done")
        scripted.go_on.set()
        assert [one.result(30)[0].text for one in stays] == ["Y", "Y"]
        assert [one.result(30) for one in changes] == ["done", "done"]
        assert text.events == []
    finally:
        scripted.go_on.set()
        worker.stop()


def test_texts_that_are_being_written_at_the_end_fail(served: SmallModels) -> None:
    lm = Stepwise(served.lm)
    worker = Worker(One("m", single(lm, None), None))
    worker.start()
    client = Told("m", [PROMPT], [plan(max_tokens=100)])
    worker.write(client.texts)
    lm.let_go(2)
    until(lambda: any(isinstance(one, Piece) for one in client.events))
    stopping = threading.Thread(target=worker.stop)
    stopping.start()
    until(lambda: worker._waiting._is_closed)
    lm.let_go(1)
    stopping.join(30)
    assert isinstance(client.error, RequestRefused) and client.error.status == 503
