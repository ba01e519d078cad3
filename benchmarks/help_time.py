"""`underdog --help` answers in under 0.4 s (median of 7), beside what importing typer alone takes."""

import statistics
import subprocess
import sys
from pathlib import Path
from time import perf_counter

import common

RUNS = 7
"""Takes a second or two, so `--quick` changes nothing."""
TARGET_S = 0.4


def main() -> int:
    arguments = common.parser(__doc__, rounds=RUNS).parse_args()
    beside = Path(sys.executable).with_name("underdog")
    # Where the command is not installed beside this Python, what its script does.
    command = [str(beside)] if beside.exists() else [sys.executable, "-c", "from underdog.cli import main; main()"]
    contenders = {
        "underdog --help": [*command, "--help"],
        "python -c 'import typer'": [sys.executable, "-c", "import typer"],
        "python -c ''": [sys.executable, "-c", ""],
    }
    for line in contenders.values():
        _seconds(line)  # warm the file cache
    if "Usage:" not in subprocess.run([*command, "--help"], check=True, capture_output=True, text=True).stdout:
        raise RuntimeError(f"{' '.join(command)} --help printed no help, so its time means nothing")
    taken: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(arguments.rounds):
        for name, line in contenders.items():
            taken[name].append(_seconds(line))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    common.table(
        f"Seconds, {arguments.rounds} runs each, taking turns",
        ("command", "median", "fastest", "slowest"),
        [(name, medians[name], min(values), max(values)) for name, values in taken.items()],
    )
    return common.finish(
        f"underdog --help takes under {TARGET_S} s",
        [common.Check("median seconds", round(medians["underdog --help"], 4), "<", TARGET_S)],
        peers=["typer"],
        seconds={name: [round(value, 4) for value in values] for name, values in taken.items()},
        installed_command=beside.exists(),
    )


def _seconds(command: list[str]) -> float:
    started = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
