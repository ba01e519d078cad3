"""Whole comparisons on planted texts: the gap is closed, the LLM stays as it is, what is killed goes on to the same figures."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
import torch
from typer.testing import CliRunner, Result

import replaces
import tiny
from flow import planted
from underdog.cli import app
from underdog.progress import Silent
from underdog.replacing.compare import compare, train
from underdog.replacing.compared import Compared
from underdog.replacing.page import write_comparison
from underdog.runs import Run

SOURCE = Path(__file__).parents[2]
KILLED_AT = 13
OWN = replaces.FILE.replace("text: texts", "text: texts\nown: own")
FEW = """\
name: tales
llm: llm
text: texts
small: {kind: nanofft, hidden_size: 32, layers: 1}
ways: [informed, full]
training: {steps: 16, learning_rate: 1.0e-2, context: 32, batch_size: 8, precision: float32}
evaluating: {valid_tokens: 1200, test_tokens: 2500}
recording: {when: always, passes: 1}
"""


@pytest.fixture(scope="module", autouse=True)
def costs_in_this_process() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        replaces.measured_here(patch)
        yield


def whole(folder: Path, content: str, progress: Silent | None = None) -> Compared:
    spec = replaces.load(replaces.write(folder, content))
    here = replaces.settings(folder)
    return compare(spec, Run(folder / "run"), folder / "small", settings=here, progress=progress or Silent())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Compared, Path]:
    folder = tmp_path_factory.mktemp("replace")
    return whole(folder, OWN), folder


def test_a_residual_closes_the_gap_and_the_llm_stays_as_it_is(done: tuple[Compared, Path]) -> None:
    found, _ = done
    llm, residual, full = (found.entry(name) for name in ("llm", "residual", "full"))
    assert llm.quality.mean > 5 > 3 > full.quality.mean, "the planted grammar is there to be learnt"
    assert residual.closed.low > 0.8 and found.entry("follower").closed.mean < residual.closed.mean
    assert residual.versus_llm.difference.high < -1 and residual.versus_llm.paired
    assert residual.versus_lora == found.best_versus_lora and found.best == "residual"
    assert found.llm_is_unchanged and found.entry("lora").rank > 0
    assert abs(found.entry("lora").parameters - residual.parameters) < 0.05 * residual.parameters
    assert residual.learning_rate == 1e-2 and residual.tried[1e-4] > residual.tried[1e-2]
    assert residual.parameters < llm.in_memory < residual.in_memory and full.in_memory == llm.in_memory
    assert found.sentence.startswith("residual (") and "closes" in found.sentence
    assert found.sentence.endswith("The LLM's weights are unchanged.")


def test_nothing_is_lost_where_the_llm_was_not_touched(done: tuple[Compared, Path]) -> None:
    found, _ = done
    assert found.entry("residual").own_after_removal == found.entry("llm").own_after_removal == 0
    assert found.entry("lora").own_after_removal == 0, "its adapters can be taken off, too"
    assert found.entry("full").own_after_removal == found.entry("full").own_change.difference.mean != 0
    assert found.entry("residual").own_change.difference.mean != 0, "at work it changes what is written"
    assert found.entry("alone").own_after_removal is None


def test_every_cost_is_measured(done: tuple[Compared, Path]) -> None:
    found, _ = done
    for one in found.entries:
        assert set(one.writing.by_batch) == {1, 16}
        assert all(spread.low > 0 and spread.runs == 3 for spread in one.writing.by_batch.values())
        assert (one.training_cost is None) == (one.name == "llm")
    assert found.entry("full").training_cost.peak_bytes > 10**7
    assert found.entry("full").writing == found.entry("llm").writing, "of the LLM's own shape"


def test_the_test_part_was_opened_once_after_everything_was_chosen(done: tuple[Compared, Path]) -> None:
    found, folder = done
    assert [one["reason"] for one in found.openings] == ["replace compare tales"]
    trials = [json.loads(path.read_text()) for path in (folder / "run" / "trials").iterdir()]
    assert len(trials) == 6, "five ways, one of them with two learning rates"
    assert len(list((folder / "run" / "models").iterdir())) == 5, "the weights of a rate that was not chosen are removed"
    assert not (folder / "run" / "recordings").exists()
    opened = (folder / "run" / "openings.json").stat().st_mtime_ns
    assert opened >= max(path.stat().st_mtime_ns for path in (folder / "run" / "trials").iterdir())


def test_what_is_finished_is_not_done_again(done: tuple[Compared, Path]) -> None:
    found, folder = done

    class Strict(Silent):
        def step(self, what: str, done: int, total: int) -> None:
            raise AssertionError(f"{what} is done again")

    again = whole(folder, OWN, Strict())
    same = ("entries", "sentence", "best", "weights_after", "openings", "small_models")
    assert [getattr(again, name) for name in same] == [getattr(found, name) for name in same]


def test_the_report_says_what_the_figures_say_and_needs_nothing_else(done: tuple[Compared, Path]) -> None:
    found, folder = done
    paths = write_comparison(found, folder / "report")
    assert Compared.model_validate_json(paths.json.read_text(encoding="utf-8")) == found
    page, text = paths.html.read_text(encoding="utf-8"), paths.markdown.read_text(encoding="utf-8")
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=\"(?!data:)", page)
    for name in ("llm", "alone", "follower", "residual", "lora", "full"):
        assert f">{name}" in page and f"| {name} |" in text.replace("**", "").replace("<br>", " |")
    best = found.entry("residual")
    assert f"{best.quality.mean:.3f} ({best.quality.low:.3f}–{best.quality.high:.3f})" in text
    assert found.weights_after in text and "rank" in text and "nothing" in text
    assert json.loads(re.search(r'id="figures">(.*?)</script>', page)[1])["chart"]["data"]
    assert not re.search(r"\d %", re.search(r"<h1>(.*?)</h1>", page, re.DOTALL)[1]), "no line ends before a per cent sign"


def replace(*arguments: object) -> Result:
    environment = {"COLUMNS": "200", "TERMINAL_WIDTH": "200", "UNDERDOG_OFFLINE": "1", "UNDERDOG_THREADS": "1"}
    return CliRunner().invoke(app, ["replace", *map(str, arguments)], env=environment)


@pytest.fixture
def registry(done: tuple[Compared, Path], tmp_path: Path) -> Path:
    """A copy of the registry and its LLM, to be harmed."""
    for name in ("small", "llm"):
        shutil.copytree(done[1] / name, tmp_path / name)
    return tmp_path / "small"


def test_small_models_are_listed_swapped_and_write(registry: Path) -> None:
    listed = json.loads(replace("list", registry, "--json").stdout)
    assert [(one["name"], one["current"]) for one in listed] == [("tales-follower", True), ("tales-residual", False)]
    assert listed[1]["trained"]["on"].endswith("texts") and listed[1]["kind"] == "residual"
    assert "tales-residual" in replace("list", registry).stdout
    swapped = replace("swap", "tales-residual", "--registry", registry)
    assert "tales-residual is used now instead of tales-follower, with" in swapped.stdout and swapped.exit_code == 0
    options = ("--registry", registry, "--max-tokens", 12, "--temperature", 0)
    current = replace("write", "the old ", *options).stdout.strip()
    mixed = replace("write", "the old ", *options, "--small", "tales-residual", "--small", "llm", "--json")
    texts = {one["small"]: one["text"] for one in json.loads(mixed.stdout)}
    assert texts["tales-residual"].strip() == current != texts["llm"].strip()
    both = replace("write", "the old ", *options, "--small", "llm", "--small", "tales-residual").stdout
    assert both.strip() == f"--- llm ---\n{texts['llm']}\n\n--- tales-residual ---\n{texts['tales-residual']}".strip()


def test_verify_proves_that_the_llm_is_unchanged(registry: Path) -> None:
    proved = replace("verify", "--registry", registry)
    assert proved.exit_code == 0 and "The LLM is unchanged: SHA-256" in proved.stdout
    said = json.loads(replace("verify", "--registry", registry, "--json").stdout)
    assert said["before"] == said["after"] == said["made_for"] and said["alone_before"] == said["alone_after"]
    wrote = {one["wrote"] for one in said["small"]}
    assert len(wrote) == 2 and said["alone_after"] not in wrote


def test_verify_names_a_damaged_small_model_and_the_llm_serves_on(registry: Path) -> None:
    path = registry / "tales-follower" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-3])
    proved = replace("verify", "--registry", registry, "--json")
    said = json.loads(proved.stdout)
    follower, residual = said["small"]
    assert proved.exit_code == 1 and f"{path} is damaged" in follower["problem"]
    assert residual["problem"] is None and residual["wrote"] and said["before"] == said["after"]
    refused = replace("swap", "tales-follower", "--registry", registry)
    assert refused.exit_code == 1 and f"Error: {path} is damaged" in refused.stderr
    assert "tales-residual" in replace("list", registry).stdout
    assert replace("write", "the ", "--registry", registry, "--small", "tales-residual", "--max-tokens", 4).exit_code == 0


def test_another_llm_in_its_place_is_told(registry: Path) -> None:
    shutil.rmtree(registry.parent / "llm")
    tiny.write_llama(registry.parent / "llm", seed=7)
    proved = replace("verify", "--registry", registry)
    assert proved.exit_code == 1
    assert "is NOT the LLM that this registry's small models are made for" in proved.stdout
    assert "it corrects the mistakes of another model" in proved.stdout
    refused = replace("write", "the ", "--registry", registry, "--small", "tales-residual")
    assert refused.exit_code == 1 and "corrects the mistakes of another model" in refused.stderr


def test_dry_runs_tell_sizes_and_time_and_train_nothing(done: tuple[Compared, Path], tmp_path: Path) -> None:
    file = done[1] / "tales.yaml"
    arguments = (file, "--run", tmp_path / "run", "--dry-run", "--json")
    said = json.loads(replace("compare", *arguments).stdout)
    ways = {one["name"]: one for one in said["ways"]}
    assert list(ways) == ["alone", "follower", "residual", "lora", "full"]
    assert all(one["seconds"] > 0 for one in ways.values())
    assert ways["residual"]["trainings"] == 2 and ways["residual"]["steps"] == 48 and ways["full"]["steps"] == 24
    assert ways["residual"]["parameters"] == done[0].entry("residual").parameters
    assert ways["lora"]["rank"] == done[0].entry("lora").rank
    assert [one["name"] for one in json.loads(replace("train", *arguments).stdout)["ways"]] == ["follower", "residual"]
    assert not (tmp_path / "run").exists()
    unknown = replace("train", file, "--way", "residul")
    assert unknown.exit_code == 1 and "Did you mean 'residual'?" in unknown.stderr


def test_training_puts_small_models_into_the_registry_beside_the_llm(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    file = replaces.write(tmp_path, FEW)
    environment = {"UNDERDOG_CACHE": str(tmp_path / "cache"), "UNDERDOG_OFFLINE": "1", "UNDERDOG_THREADS": "1"}
    command = ["replace", "train", str(file), "--run", str(tmp_path / "run"), "--json"]
    said = json.loads(CliRunner().invoke(app, command, env=environment).stdout)
    assert said["small_models"] == ["tales-informed"] and said["registry"] == str(tmp_path / "llm-small")
    assert [one["way"] for one in said["trained"]] == ["informed"] and said["trained"][0]["recorded"] == 1
    assert (tmp_path / "llm-small" / "tales-informed" / "model.safetensors").is_file()
    assert not (tmp_path / "run" / "openings.json").exists(), "training never opens the test part"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Compared:
    return whole(tmp_path_factory.mktemp("undisturbed"), FEW)


class Waiting(Silent):
    """Says when it has come far enough, and then waits to be killed."""

    def __init__(self, folder: Path, way: str) -> None:
        self.folder, self.way = folder, way

    def step(self, what: str, done: int, total: int) -> None:
        if what.startswith(self.way) and "validation" not in what and done == KILLED_AT:
            (self.folder / "reached").touch()
            sleep(120)


@pytest.mark.parametrize("way", ["informed", "full"])
def test_a_killed_comparison_goes_on_to_the_same_figures(tmp_path: Path, way: str, undisturbed: Compared) -> None:
    replaces.write(tmp_path, FEW)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE / "src"), str(SOURCE / "tests")]), "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen([sys.executable, "-m", "flow.test_replacing", str(tmp_path), way], env=environ)
    deadline = monotonic() + 200
    while not (tmp_path / "reached").exists():
        assert started.poll() is None, "it ended before it was to be killed"
        assert monotonic() < deadline
        sleep(0.05)
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    steps: list[tuple[str, int]] = []

    class Recorder(Silent):
        def step(self, what: str, done: int, total: int) -> None:
            steps.append((what, done))

    found = whole(tmp_path, FEW, Recorder())
    taken = [done for what, done in steps if what.startswith(f"{way} ·") and "validation" not in what]
    assert taken[0] in (KILLED_AT, KILLED_AT + 1), "the steps before the kill are not taken again"
    for ours, theirs in zip(found.entries, undisturbed.entries, strict=True):
        assert (ours.name, ours.quality, ours.valid, ours.closed) == (theirs.name, theirs.quality, theirs.valid, theirs.closed)
    assert [one["reason"] for one in found.openings] == ["replace compare tales"]


TASK = """\
name: planted-replace
llm: llm
task: task.yaml
small: {kind: shrunk, size: 40K}
ways: [{kind: residual, tables: shared}, full]
training: {steps: 40, learning_rate: 1.0e-2, batch_size: 32, precision: float32}
"""


def test_a_task_is_answered_by_the_pair_and_measured_by_its_metric(tmp_path: Path) -> None:
    planted.write_task(tmp_path, planted.label_rows(200))
    found = whole(tmp_path, TASK)
    assert (found.unit, found.less_is_better, found.on) == ("accuracy", False, str(tmp_path / "task.yaml"))
    llm, best, full = found.entry("llm"), found.entry(found.best), found.entry("full")
    assert llm.quality.mean < 0.7 and best.quality.mean > 0.95 and full.quality.mean > 0.95
    assert best.closed.mean > 0.9 and found.test_passages == best.quality.n == 60
    assert "accuracy" in found.sentence and found.llm_is_unchanged
    assert "points" in write_comparison(found, tmp_path).markdown.read_text(encoding="utf-8")


def main(folder: Path, way: str) -> None:
    from underdog.training import loop

    torch.set_num_threads(1)
    keywords = loop.fit.__kwdefaults__
    keywords["checkpoint_every_s"] = -1.0
    spec = replaces.load(folder / "tales.yaml")
    train(
        spec, Run(folder / "run"), folder / "small", settings=replaces.settings(folder), progress=Waiting(folder, way),
        ways=["informed", way] if way != "informed" else [way],
    )  # fmt: skip


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
