"""10,000 records from a server that fails: all kept, none asked again after it was kept, the spending cap never passed.

The server runs in this process and logs every call; the recording runs in one of its own. It is killed (`kill -9`) in the
middle, started again, stopped by its cap, and started once more with a higher one.
"""

import os
import random
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, sleep

import common

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from faulty_server import BROKEN, CUT, RESET, FaultyServer, Say, refusal
from underdog.answering import Question
from underdog.errors import SpendingCapReached
from underdog.knowledge.recording import record, remote_writer
from underdog.knowledge.store import Store
from underdog.progress import Silent
from underdog.settings import Settings
from underdog.task.examples import Example
from underdog.task.teachers import Prices, RemoteTeacher
from underdog.teachers.retry import Backoff
from underdog.teachers.spending import Tokens, usd
from underdog.teachers.writing import Request, Sampling

RECORDS, QUICK_RECORDS = 10_000, 1_000
CONCURRENCY = 16
FAULTS = {
    "429": (0.05, refusal(429, "slow down", Retry_After="0")),
    "500": (0.02, BROKEN),
    "cut-off JSON": (0.01, CUT),
    "reset": (0.005, RESET),
}
"""How often a call meets each fault."""
PRICES = Prices(usd_per_million_input=2.5, usd_per_million_output=10.0)
CAP_SHARE = 0.75
"""The first cap, as a share of what all replies cost: it is reached after the kill and before the end."""
KILL_SHARE = 0.45
CAP_REACHED = 3
"""Exit code of a recording that its cap stopped."""


def main() -> int:
    arguments = common.parser(__doc__)
    arguments.add_argument("--child", nargs=4, metavar=("URL", "STORE", "RECORDS", "CAP"), help="record; for the script itself")
    asked = arguments.parse_args()
    if asked.child:
        return child(asked.child[0], Path(asked.child[1]), int(asked.child[2]), float(asked.child[3]))
    return parent(QUICK_RECORDS if asked.quick else RECORDS)


def requests(count: int) -> list[tuple[Example, Request]]:
    return [(Example(Question(str(n), prompt(n)), ""), Request("big", "", prompt(n), Sampling(64))) for n in range(count)]


def prompt(number: int) -> str:
    return f"Question {number}: {'why is it so, and not otherwise? ' * (1 + number % 7)}"


def child(url: str, path: Path, count: int, cap_usd: float) -> int:
    """Record as `underdog record` does, but without waiting between attempts for longer than a blink."""
    teacher = RemoteTeacher(
        name="big", model="big", url=url, concurrency=CONCURRENCY, attempts=10, timeout_s=30, prices=PRICES, cap_usd=cap_usd
    )
    with Store.open(path) as store:
        writer = remote_writer(teacher, store, Settings(cache=path.parent), Backoff(base_s=0.002, longest_s=0.05))
        try:
            found = record(requests(count), writer, store, Silent(), teacher="big", task=None, mode="free")
        except SpendingCapReached as stop:
            common.say(str(stop))
            return CAP_REACHED
    common.say(found.sentence)
    return 0 if found.missing == 0 else 1


def script(prompt: str, time: int) -> Say:
    """The same faults for the same calls, whenever they come."""
    draw = random.Random(f"{prompt} {time}")
    place = draw.random()
    for share, fault in FAULTS.values():
        if place < share:
            return fault
        place -= share
    return Say(f"Because of {prompt}", tokens=tokens(prompt))


def tokens(prompt: str) -> tuple[int, int]:
    """What the server counts for a reply."""
    return 8 + len(prompt) // 4, 20 + len(prompt) % 40


@dataclass(frozen=True, slots=True)
class Phase:
    """One process that recorded."""

    name: str
    ended: int
    calls: tuple[str, ...]
    """Prompts in the order in which they came."""
    again: int
    """Calls for a prompt that was kept before the process started, or whose reply it had had whole."""
    kept: frozenset[str]
    """Prompts kept when it had ended."""
    served: frozenset[str]
    billed_usd: float
    """What the server has charged by then."""
    spent_usd: float
    """What the store reckons by then."""
    cap_usd: float
    seconds: float


def parent(count: int) -> int:
    total = sum(usd(Tokens(*tokens(prompt(number))), PRICES) for number in range(count))
    low, high = CAP_SHARE * total, 2 * total
    with TemporaryDirectory() as folder, FaultyServer(script) as server:
        path = Path(folder) / "knowledge.sqlite"
        phases = [run("killed with -9", server, path, count, low, frozenset(), kill_after=int(KILL_SHARE * count))]
        for name, cap in (("stopped by its cap", low), ("to the end", high)):
            phases.append(run(name, server, path, count, cap, phases[-1].kept))
        with Store.open(path) as store:
            damage = len(store.verify())
        faults = Counter(fault_of(call) for call in numbered(server))
    return report(count, phases, faults, damage)


def run(
    name: str, server: FaultyServer, path: Path, count: int, cap: float, kept: frozenset[str], kill_after: int | None = None
) -> Phase:
    """Let a process record until it ends, or until so many replies have been served."""
    calls, served, started = len(server.calls), len(server.served), perf_counter()
    process = subprocess.Popen([sys.executable, __file__, "--child", server.url, str(path), str(count), repr(cap)])
    while process.poll() is None:
        if kill_after is not None and len(server.served) >= kill_after:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        sleep(0.01)
    took = perf_counter() - started
    with Store.open(path) as store:
        now_kept = frozenset(record.request.prompt for record in store.find())
        spent = store.spent("big")
    billed = usd(Tokens(server.billed["input"], server.billed["output"]), PRICES)
    came = tuple(call.prompt for call in server.calls[calls:])
    answered = Counter(server.served[served:])
    again = sum(prompt in kept for prompt in came) + sum(times - 1 for times in answered.values())
    common.say(f"{name}: {len(now_kept)} of {count} kept after {took:.1f} s")
    return Phase(name, process.returncode, came, again, now_kept, frozenset(answered), billed, spent, cap, took)


def numbered(server: FaultyServer) -> list[tuple[str, int]]:
    """Every call with the number of times that its prompt had come."""
    times = Counter[str]()
    found = []
    for call in server.calls:
        times[call.prompt] += 1
        found.append((call.prompt, times[call.prompt]))
    return found


def fault_of(call: tuple[str, int]) -> str:
    said = script(*call)
    return next((name for name, (_, fault) in FAULTS.items() if said is fault), "answered")


def report(count: int, phases: list[Phase], faults: Counter[str], damage: int) -> int:
    killed, capped, last = phases
    calls = sum(len(phase.calls) for phase in phases)
    common.table(
        f"{count} records, {CONCURRENCY} calls at once",
        ("process", "calls", "kept by then", "asked again", "server billed, $", "reckoned, $", "cap, $", "seconds"),
        [(p.name, len(p.calls), len(p.kept), p.again, p.billed_usd, p.spent_usd, p.cap_usd, round(p.seconds, 1)) for p in phases],
    )
    common.table("What the calls met", ("fault", "calls", "share"), [(n, c, c / calls) for n, c in faults.most_common()])
    checks = [
        common.Check("records kept", len(last.kept), ">=", count),
        common.Check("asked again after kept", sum(phase.again for phase in phases), "<=", 0),
        common.Check("billed / cap, at most", round(max(p.billed_usd / p.cap_usd for p in phases), 6), "<=", 1.0),
        common.Check("reckoned / cap, at most", round(max(p.spent_usd / p.cap_usd for p in phases), 6), "<=", 1.0),
        common.Check("billed / reckoned, at most", round(max(p.billed_usd / p.spent_usd for p in phases), 6), "<=", 1.0),
        common.Check("replies lost by the kill", len(killed.served - killed.kept), "<=", CONCURRENCY),
        common.Check("processes that ended otherwise than meant",
                     sum(phase.ended != meant for phase, meant in zip(phases, (-signal.SIGKILL, CAP_REACHED, 0), strict=True)),
                     "<=", 0),
        common.Check("damaged records", damage, "<=", 0),
    ]  # fmt: skip
    return common.finish(
        f"{count} records from a faulty server, one kill -9: all kept, none asked twice once kept, the cap never passed",
        checks,
        peers=["openai", "sqlalchemy"],
        records=count,
        faults={name: round(number / calls, 5) for name, number in faults.items()},
        kept_by_phase={phase.name: len(phase.kept) for phase in phases},
        usd_billed={phase.name: round(phase.billed_usd, 6) for phase in phases},
        usd_reckoned={phase.name: round(phase.spent_usd, 6) for phase in phases},
        records_per_second=round((len(last.kept) - len(capped.kept)) / last.seconds, 1),
    )


if __name__ == "__main__":
    sys.exit(main())
