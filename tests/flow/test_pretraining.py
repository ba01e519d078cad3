"""A pre-training that is killed goes on where it was, and comes to the very same model."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

import pytest

import texts
from underdog.errors import Interrupted
from underdog.pretraining.pretrain import Pretrained, pretrain
from underdog.pretraining.spec import PretrainingSpec
from underdog.progress import Silent
from underdog.runs import Run
from underdog.settings import Settings

SOURCE = Path(__file__).parents[2]
KILLED_AT = 9


class Recorder(Silent):
    def __init__(self, interrupt_at: int | None = None) -> None:
        self.steps: list[int] = []
        self.interrupt_at = interrupt_at

    def step(self, what: str, done: int, total: int) -> None:
        if what.startswith("tales"):
            self.steps.append(done)
            if done == self.interrupt_at:
                raise KeyboardInterrupt


def run(folder: Path, progress: Silent) -> Pretrained:
    spec = PretrainingSpec.load(texts.write_file(folder))
    return pretrain(spec, Run(folder / "run"), settings=settings(folder), progress=progress)


def settings(folder: Path) -> Settings:
    return Settings(cache=folder / "cache", offline=True, threads=1)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pretrained, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    found = run(folder, Silent())
    return found, (folder / "run" / "model" / "model.safetensors").read_bytes()


def assert_same(found: Pretrained, folder: Path, undisturbed: tuple[Pretrained, bytes]) -> None:
    """Weights bit for bit, and all figures but times."""
    assert (folder / "run" / "model" / "model.safetensors").read_bytes() == undisturbed[1]
    for name in ("fingerprint", "steps", "tokens", "valid", "test", "samples"):
        assert getattr(found, name) == getattr(undisturbed[0], name), name
    ours, theirs = ([(p.step, p.training_loss, p.bits_per_character) for p in each.points] for each in (found, undisturbed[0]))
    assert ours == theirs


@pytest.mark.parametrize("at", [3, 8])
def test_ctrl_c_keeps_every_step(tmp_path: Path, at: int, undisturbed: tuple[Pretrained, bytes]) -> None:
    with pytest.raises(Interrupted, match=f"Stopped at step {at} of 12 of tales"):
        run(tmp_path, Recorder(interrupt_at=at))
    again = Recorder()
    found = run(tmp_path, again)
    assert again.steps == list(range(at + 1, 13))
    assert_same(found, tmp_path, undisturbed)


def test_a_killed_process_goes_on_from_its_checkpoint(tmp_path: Path, undisturbed: tuple[Pretrained, bytes]) -> None:
    """SIGKILL in the middle of training, a checkpoint after every step: nothing is half written, and the result is the same."""
    texts.write_file(tmp_path)
    environ = os.environ | {"PYTHONPATH": os.pathsep.join([str(SOURCE / "src"), str(SOURCE / "tests")]), "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen([sys.executable, "-m", "flow.test_pretraining", str(tmp_path)], env=environ)
    deadline = monotonic() + 120
    while not (tmp_path / "reached").exists():
        assert started.poll() is None, "it ended before it was to be killed"
        assert monotonic() < deadline
        sleep(0.05)
    started.send_signal(signal.SIGKILL)
    assert started.wait() == -signal.SIGKILL
    assert not (tmp_path / "run" / "pretraining.json").exists()
    assert not (tmp_path / "run" / "model").exists()
    again = Recorder()
    found = run(tmp_path, again)
    assert again.steps[0] in (KILLED_AT, KILLED_AT + 1), "the steps before the kill are not taken again"
    assert_same(found, tmp_path, undisturbed)


class Waiting(Recorder):
    """Says when it has come far enough, and then waits to be killed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def step(self, what: str, done: int, total: int) -> None:
        if what.startswith("tales") and done == KILLED_AT:
            (self.folder / "reached").touch()
            sleep(60)


def main(folder: Path) -> None:
    from underdog.training import loop

    keywords = loop.fit.__kwdefaults__
    keywords["checkpoint_every_s"] = -1.0
    run(folder, Waiting(folder))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
