"""Recording: asked once, kept at once, under a cap, whatever the server and the system do."""

import json
import os
import random
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from typer.testing import CliRunner

from faulty_server import BROKEN, BUSY, CUT, EMPTY, OK, RESET, FaultyServer, Say, first, refusal, slow
from flow.planted import Recorder, in_another_process, label_rows, load, write_task
from underdog.answering import Question
from underdog.cli import app
from underdog.errors import DiskFull, MissingKey, NoStore, SpendingCapReached
from underdog.knowledge.estimate import estimate
from underdog.knowledge.recording import record, remote_writer
from underdog.knowledge.store import Store
from underdog.settings import Settings
from underdog.task.examples import Example
from underdog.task.splits import split
from underdog.task.teachers import Prices, RemoteTeacher
from underdog.teachers.retry import Backoff
from underdog.teachers.writing import Request, Sampling

KEY = "sk-very-secret-0123456789"
PRICES = Prices(usd_per_million_input=1.0, usd_per_million_output=10.0)
PAID = (10 + 5 * 10) / 1e6
"""What the server counts for a reply."""
QUICK = Backoff(base_s=0.001)


def wanted(count: int) -> list[tuple[Example, Request]]:
    return [
        (Example(Question(f"item-{n}", f"Why {n}?"), "so"), Request("big-model", "r1", f"Why {n}?", Sampling(20)))
        for n in range(count)
    ]


def teacher(url: str, **fields: Any) -> RemoteTeacher:
    return RemoteTeacher(**{"name": "big", "model": "big-model", "url": url, "revision": "r1", "prices": PRICES} | fields)


def run(url: str, path: Path, count: int, progress: Recorder | None = None, **fields: Any) -> Any:
    """Record as the command does, in the store at `path`."""
    settings = Settings(cache=path.parent, environ={"BIG_KEY": KEY})
    with Store.open(path) as store:
        writer = remote_writer(teacher(url, **fields), store, settings, QUICK)
        return record(wanted(count), writer, store, progress or Recorder(), teacher="big", task="t1", mode="free")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "knowledge.sqlite"


def kept(path: Path) -> dict[str, Any]:
    with Store.open(path) as store:
        return {record.item or "": record for record in store.find()}


def test_every_reply_is_kept_with_all_that_led_to_it(path: Path) -> None:
    with FaultyServer(lambda prompt, time: Say(f"Said to {prompt}", finish="length" if "3" in prompt else "stop")) as server:
        recorded = run(server.url, path, 5)
    assert (recorded.requests, recorded.asked, recorded.kept_before, recorded.missing, recorded.cut) == (5, 5, 0, 0, 1)
    assert (recorded.input_tokens, recorded.output_tokens) == (50, 25)
    assert recorded.usd == pytest.approx(5 * PAID)
    one = kept(path)["item-3"]
    assert one.request == wanted(4)[3][1]
    assert (one.reply.text, one.reply.finish, one.task, one.mode, one.saw_answer) == (
        "Said to Why 3?",
        "length",
        "t1",
        "free",
        False,
    )
    with Store.open(path) as store:
        assert store.spent("big-model") == pytest.approx(5 * PAID)


def test_what_is_kept_is_not_asked_again_and_failures_are(path: Path) -> None:
    with FaultyServer(lambda prompt, time: BROKEN if prompt == "Why 2?" and time <= 2 else OK) as server:
        before = run(server.url, path, 5, attempts=2)
        assert (before.asked, before.missing, before.failures) == (4, 1, {"HTTP 500": 1})
        after = run(server.url, path, 8, attempts=2)
        assert (after.kept_before, after.asked, after.missing) == (4, 4, 0)
        assert run(server.url, path, 8).asked == 0
    assert Counter(call.prompt for call in server.calls) == {f"Why {n}?": 3 if n == 2 else 1 for n in range(8)}
    assert sorted(kept(path)) == [f"item-{n}" for n in range(8)]


def test_equal_requests_of_several_items_are_asked_once(path: Path) -> None:
    twice = [*wanted(2), (Example(Question("twin", "Why 0?"), "so"), wanted(1)[0][1])]
    with FaultyServer() as server, Store.open(path) as store:
        writer = remote_writer(teacher(server.url), store, Settings(cache=path.parent), QUICK)
        recorded = record(twice, writer, store, Recorder(), teacher="big", task=None, mode="forced")
    assert (recorded.requests, recorded.asked) == (2, 2) and len(server.calls) == 2
    assert all(record.saw_answer for record in kept(path).values())


def test_faults_of_every_kind_are_survived_and_failures_are_counted_by_reason(path: Path) -> None:
    faults = {"Why 0?": EMPTY, "Why 1?": CUT, "Why 2?": RESET, "Why 3?": BUSY, "Why 4?": EMPTY}
    progress = Recorder()
    with FaultyServer(lambda prompt, time: faults.get(prompt, OK)) as server:
        recorded = run(server.url, path, 20, progress, attempts=2)
    assert recorded.failures == {
        "empty text": 2, "the reply is cut off or no JSON": 1, "the connection broke": 1, "HTTP 429": 1
    }  # fmt: skip
    assert (recorded.asked, recorded.missing) == (15, 5)
    assert "big: 15 asked and kept, 0 kept before, 5 missing of 20; " in progress.said[-1]
    assert "\n  2 given up: empty text, such as: finished with 'stop'\n" in progress.said[-1]
    assert recorded.examples["HTTP 429"] == "HTTP 429: 'slow down'"
    with Store.open(path) as store:
        assert store.spent("big-model") == pytest.approx(recorded.usd)


def test_progress_tells_count_and_cost(path: Path) -> None:
    progress = Recorder()
    with FaultyServer() as server:
        run(server.url, path, 3)
        run(server.url, path, 6, progress, concurrency=1, prices=Prices(usd_per_million_input=100, usd_per_million_output=100))
    assert progress.steps == [(f"Asking big; ${n * 0.0015:.4f}", n, 3) for n in (1, 2, 3)]


def test_the_cap_holds_over_runs_and_the_work_goes_on_when_it_is_raised(path: Path) -> None:
    cap = 50 * PAID
    with FaultyServer(lambda prompt, time: OK if random.Random(prompt).random() < 0.9 else first(EMPTY)(prompt, time)) as server:
        for _ in range(2):
            with pytest.raises(
                SpendingCapReached, match=r"teacher 'big': \$0\.00\d+ are spent, the cap is \$0\.003, and the next"
            ):
                run(server.url, path, 80, cap_usd=cap)
        with Store.open(path) as store:
            spent = store.spent("big-model")
        assert spent <= cap
        assert (server.billed["input"] + 10 * server.billed["output"]) / 1e6 == pytest.approx(spent)
        some = len(kept(path))
        assert 0 < some < 80
        assert run(server.url, path, 80, cap_usd=1.0).kept_before == some
    assert max(Counter(server.served).values()) == 1 and len(set(server.served)) == 80


def test_one_model_at_two_servers_has_an_account_at_each(path: Path) -> None:
    settings = Settings(cache=path.parent)
    most = estimate([wanted(1)[0][1]], None, teacher("http://localhost/v1")).usd
    assert most is not None
    with FaultyServer() as dear, FaultyServer() as other, Store.open(path) as store:
        for server, count in ((dear, 10), (other, 20)):
            requests = [(example, replace(request, revision=server.url)) for example, request in wanted(count)]
            cap = count * PAID + most
            writer = remote_writer(teacher(server.url, cap_usd=cap), store, settings, QUICK)
            done = record(requests, writer, store, Recorder(), teacher="big", task=None, mode="free")
            assert done.asked == count
            found = estimate([request for _, request in requests], store, teacher(server.url, cap_usd=cap))
            assert found.spent_usd == pytest.approx(count * PAID)
        assert store.spent("big-model") == pytest.approx(30 * PAID)


def record_and_die(url: str, path: Path, after: int) -> None:
    class Killer(Recorder):
        def step(self, what: str, done: int, total: int) -> None:
            if done == after:
                os.kill(os.getpid(), signal.SIGKILL)

    run(url, path, 60, Killer(), concurrency=4, cap_usd=1.0)


def test_a_killed_process_loses_at_most_the_calls_in_flight(path: Path) -> None:
    with FaultyServer(lambda prompt, time: slow(0.01)) as server:
        assert in_another_process(record_and_die, server.url, path, 20) == -signal.SIGKILL
        before = {record.request.prompt for record in kept(path).values()}
        asked = {call.prompt for call in server.calls}
        assert len(before) == 20 and len(asked - before) <= 4
        with Store.open(path) as store:
            assert store.spent("big-model") >= len(asked) * PAID - 1e-12
        first_calls = len(server.calls)
        recorded = run(server.url, path, 60, cap_usd=1.0)
    assert recorded.kept_before == 20 and recorded.missing == 0
    assert not before & {call.prompt for call in server.calls[first_calls:]}


def record_all(url: str, path: Path) -> None:
    run(url, path, 40, concurrency=4)


def test_two_processes_on_one_store_ask_nothing_twice(path: Path) -> None:
    with FaultyServer(lambda prompt, time: slow(0.02)) as server:
        threads = [Thread(target=in_another_process, args=(record_all, server.url, path)) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert Counter(call.prompt for call in server.calls) == {f"Why {n}?": 1 for n in range(40)}
    assert len(kept(path)) == 40


def test_a_process_that_waits_for_another_says_so(path: Path) -> None:
    with FaultyServer() as server, Store.open(path) as store:
        writer = remote_writer(teacher(server.url), store, Settings(cache=path.parent), QUICK)

        class Other(Recorder):
            """The other process comes to its end while this one waits."""

            def say(self, text: str) -> None:
                super().say(text)
                if text.startswith("Another process"):
                    claim.__exit__(None, None, None)

        other, claim = Other(), store.claimed("big-model r1", lambda: None)
        claim.__enter__()
        recorded = record(wanted(3), writer, store, other, teacher="big", task="t1", mode="free")
    assert other.said[0] == "Another process is asking big-model for this store; waiting for it"
    assert recorded.asked == 3


def test_no_key_is_written_anywhere(path: Path) -> None:
    progress = Recorder()
    with FaultyServer(lambda prompt, time: Say("fine") if "1" in prompt else Say(status=500, body=f"bad key {KEY}")) as server:
        run(server.url, path, 2, progress, key="BIG_KEY", attempts=1)
        assert server.calls[0].headers["authorization"] == f"Bearer {KEY}"
        with pytest.raises(MissingKey), Store.open(path) as store:
            remote_writer(teacher(server.url, key="BIG_KEY"), store, Settings(cache=path.parent))
    for file in path.parent.iterdir():
        assert KEY.encode() not in file.read_bytes()
    assert KEY not in str(progress) + repr(Settings(cache=path, environ={"BIG_KEY": KEY}))


def test_the_estimate_counts_what_is_missing_and_bounds_the_cost(path: Path) -> None:
    requests = [request for _, request in wanted(10)]
    with FaultyServer() as server:
        run(server.url, path, 4)
    with Store.open(path) as store:
        found = estimate(requests, store, teacher(server.url, cap_usd=2.0))
    assert (found.calls, found.kept, found.output_tokens, found.cap_usd) == (6, 4, 120, 2.0)
    assert found.input_tokens == 6 * (len("Why 5?") // 4)
    assert found.usd == pytest.approx(6 * (6 + 256 + 200) / 1e6)
    assert found.spent_usd == pytest.approx(4 * PAID)
    empty = estimate(requests, None, teacher(server.url, prices=None))
    assert (empty.calls, empty.kept, empty.usd, empty.spent_usd) == (10, 0, None, 0.0)


def test_a_full_disk_ends_recording_with_a_message_and_keeps_what_was_kept(path: Path) -> None:
    with FaultyServer() as server:
        run(server.url, path, 2)
        with Store.open(path) as store:
            with store._database.reading() as connection:
                pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
                connection.exec_driver_sql(f"PRAGMA max_page_count = {pages + 4}")
            writer = remote_writer(teacher(server.url), store, Settings(cache=path.parent), QUICK)
            with pytest.raises(DiskFull, match="no room left to keep what a teacher said"):
                record(wanted(200), writer, store, Recorder(), teacher="big", task="t1", mode="free")
    assert {"item-0", "item-1"} <= set(kept(path))


def record_command(folder: Path, *options: str) -> Any:
    environment = {"UNDERDOG_CACHE": str(folder / "cache"), "UNDERDOG_OFFLINE": "1", "UNDERDOG_THREADS": "1", "COLUMNS": "120"}
    return CliRunner().invoke(app, ["record", str(folder / "task.yaml"), *options], env=environment | {"BIG_KEY": KEY})


def write_asking_task(folder: Path, url: str, *more: dict[str, Any], **fields: Any) -> None:
    far = {"name": "big", "model": "big-model", "url": url, "key": "BIG_KEY", "prices": PRICES.model_dump(), **fields}
    far.setdefault("ask", {"examples": 1, "max_tokens": 20})
    write_task(folder, label_rows(40), teachers=[{"name": "untrained", "model": "MODEL"}, far, *more], reference="untrained")


def test_the_command_asks_about_training_items_only_and_once(tmp_path: Path) -> None:
    with FaultyServer(lambda prompt, time: Say("It says so.\nAnswer: left")) as server:
        write_asking_task(tmp_path, server.url)
        plan = record_command(tmp_path, "--dry-run", "--json")
        assert plan.exit_code == 0, plan.stderr
        (planned,) = json.loads(plan.stdout)
        assert not server.calls and not (tmp_path / "knowledge.sqlite").exists()
        done = record_command(tmp_path, "--json")
        assert done.exit_code == 0, done.stderr
        (recorded,) = json.loads(done.stdout)
        again = record_command(tmp_path)
        assert again.exit_code == 0, again.stderr
    train = split(load(tmp_path / "task.yaml")).train
    assert planned["calls"] == recorded["asked"] == len(server.calls) == len(train)
    assert recorded["usd"] <= planned["usd"] and (planned["spent_usd"], planned["cap_usd"]) == (0.0, None)
    assert set(kept(tmp_path / "knowledge.sqlite")) == {example.id for example in train}
    assert "big: 0 asked and kept, 20 kept before of 20" in again.stderr and "Teachers asked" in again.stdout
    assert KEY not in plan.output + done.output + again.output


def test_the_cost_is_told_before_a_database_holds_a_store(tmp_path: Path, postgresql) -> None:
    with FaultyServer() as server:
        write_asking_task(tmp_path, server.url)
        task_file = tmp_path / "task.yaml"
        task_file.write_text(task_file.read_text() + f"knowledge: {json.dumps(postgresql.emptied())}\n")
        plan = record_command(tmp_path, "--dry-run", "--json")
        assert plan.exit_code == 0, plan.stderr
        assert [planned["calls"] for planned in json.loads(plan.stdout)] == [20]
        with pytest.raises(NoStore):
            Store.open(postgresql.url, create=False)


def test_a_teacher_that_stops_does_not_keep_the_others_from_being_asked(tmp_path: Path) -> None:
    small = {"examples": 0, "max_tokens": 20, "items": 3}
    with FaultyServer() as server, FaultyServer(lambda prompt, time: refusal(401, f"bad key {KEY}")) as refusing:
        other = {"name": "other", "model": "other-model", "url": server.url, "ask": small}
        write_asking_task(tmp_path, refusing.url, other, ask=small)
        ended = record_command(tmp_path)
    assert ended.exit_code == 1
    assert "Error: teacher 'big': " in ended.stderr and "refuses with HTTP 401: 'bad key ***'" in ended.stderr
    assert "other: 3 asked and kept" in ended.stderr and len(server.calls) == 3
    assert KEY not in ended.output


def test_a_missing_key_is_told_before_anything_is_asked_and_unknown_teachers_too(tmp_path: Path) -> None:
    with FaultyServer() as server:
        other = {"name": "other", "model": "other-model", "url": server.url}
        write_asking_task(tmp_path, server.url, other, key="MISSING_KEY")
        ended = record_command(tmp_path)
        assert ended.exit_code == 1 and "the environment variable MISSING_KEY is not set" in ended.stderr
        ended = record_command(tmp_path, "--teacher", "othr")
        assert "no teacher that is asked is called 'othr'. Did you mean 'other'? Known: big, other." in ended.stderr
        write_asking_task(tmp_path, server.url, ask=None)
        ended = record_command(tmp_path)
        assert ended.exit_code == 1 and "task 'planted' has no teacher that is asked for reasons." in ended.stderr
    assert not server.calls


def test_a_local_teacher_is_asked_by_the_same_command(tmp_path: Path) -> None:
    write_task(
        tmp_path, label_rows(40),
        teachers=[{"name": "near", "model": "MODEL", "ask": {"examples": 0, "max_tokens": 6, "items": 4}}], reference="near",
    )  # fmt: skip
    done = record_command(tmp_path, "--json")
    assert done.exit_code == 0, done.stderr
    (recorded,) = json.loads(done.stdout)
    assert recorded["asked"] + sum(recorded["failures"].values()) == 4
    assert recorded["usd"] == 0.0 and 0 < recorded["output_tokens"] <= 24
    assert len(kept(tmp_path / "knowledge.sqlite")) == recorded["asked"] > 0
