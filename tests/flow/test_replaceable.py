"""Small models of every kind learn a planted rule beside an LLM that knows nothing of it, and that stays as it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import pairs
from underdog.errors import Interrupted
from underdog.models import LanguageModel
from underdog.progress import Silent
from underdog.systems.replaceable import fingerprints
from underdog.systems.replaceable.cut import above
from underdog.systems.replaceable.kinds import Branch, Follower, Informed, Kind, Residual
from underdog.systems.replaceable.lessons import RecordedBlocks
from underdog.systems.replaceable.pair import Pair
from underdog.systems.replaceable.recording import record
from underdog.systems.replaceable.small import ResidualSmall, join
from underdog.systems.replaceable.training import train
from underdog.training.blocks import Blocks
from underdog.training.plan import StepPlan

LENGTH = 32
KINDS: dict[str, Kind] = {
    "informed": Informed(),
    "branch": Branch(layers=1),
    "residual": Residual(),
    "residual-tokens": Residual(reads="tokens"),
    "residual-shared": Residual(tables="shared"),
}


def _plan(steps: int = 150, learning_rate: float = 1e-2) -> StepPlan:
    return StepPlan(steps=steps, learning_rate=learning_rate, batch_size=8, precision="float32", seed=1)


def _counting(count: int) -> np.ndarray:
    """Each token is the one two places before it plus one, in two ranges."""
    text = (np.cumsum(np.arange(count) % 2) % 20 + 50 * (np.arange(count) % 2)).astype(np.uint16)
    assert (text[2::2] == (text[:-2:2] + 1) % 20).all()
    return text


def _loss(pair: Pair, text: np.ndarray) -> float:
    """Nats per token."""
    rows = torch.from_numpy(
        np.stack([text[at : at + LENGTH + 1] for at in range(0, len(text) - LENGTH, LENGTH)]).astype(np.int64)
    )
    return -float(pair.predict(rows).mean())


def _part(folder: Path) -> LanguageModel:
    return pairs.llama(folder, layers=1, seed=5, initializer_range=0.1)


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("family", ["llama", "nanofft"])
def test_a_planted_rule_is_learnt_beside_an_llm_that_does_not_know_it(
    tmp_path: Path, untied_lm: LanguageModel, family: str, kind: str
):
    llm = untied_lm if family == "llama" else pairs.nanofft(num_hidden_layers=1 + (kind == "branch"), mixing="decay")
    part = _part(tmp_path / "part") if family == "llama" else pairs.nanofft(seed=5, mixing="decay", initializer_range=0.02)
    if kind == "branch":
        part = above(llm, 1)
    before, text = fingerprints.of_llm(llm), _counting(3000)
    pair = Pair(llm, join(KINDS[kind], part, llm))
    untrained = _loss(pair, text[2500:])
    recording = record(tmp_path, pair, text[:2500], LENGTH, llm=before, passes=6)
    rate = 1e-2 if kind == "informed" else 3e-3
    learnt = train(pair, RecordedBlocks(recording, text[:2500]), _plan(200, rate))
    assert untrained > 4
    enough = 3.0 if kind == "branch" else 0.4  # one layer between an LLM's states and head that both know nothing
    assert _loss(pair, text[2500:]) < enough
    assert learnt.losses[0] > 4 and learnt.losses[-1] < enough and learnt.steps == 200
    assert fingerprints.of_llm(llm) == before
    if isinstance(pair.small, ResidualSmall):
        assert abs(float(pair.small.strength.detach())) > 0.5


def test_a_follower_learns_what_the_llm_tells_and_no_more(tmp_path: Path, untied_lm: LanguageModel):
    """Text in which each token is the LLM's own likeliest one, shifted: the follower finds out from predictions alone. A rule
    that the predictions do not tell stays hidden from it."""
    llm = untied_lm
    draw = np.random.default_rng(0)
    rows = torch.from_numpy(draw.integers(0, 300, (90, 1)))
    with torch.no_grad():
        while rows.shape[1] < LENGTH:
            likeliest = llm.model(input_ids=rows).logits[:, -1].argmax(-1)
            rows = torch.cat([rows, ((likeliest + 7) % 380)[:, None]], 1)
    text = rows.flatten().numpy().astype(np.uint16)
    pair = Pair(llm, join(Follower(temperature=0.0), _part(tmp_path / "part"), llm))
    recording = record(tmp_path, pair, text[: 80 * LENGTH + 1], LENGTH, llm="x")
    assert _loss(pair, text[80 * LENGTH :]) > 4
    train(pair, RecordedBlocks(recording, text), _plan(200))
    assert _loss(pair, text[80 * LENGTH :]) < 1.2, "the first token of each block is drawn, and nobody can know it"
    with torch.no_grad():
        tokens = rows[80:]
        hits = (pair.log_probabilities(tokens).argmax(-1)[:, :-1] == tokens[:, 1:]).float().mean()
    assert float(hits) > 0.9


class _Stopping(Silent):
    """Ctrl-C at a step."""

    def __init__(self, at: int) -> None:
        self.at = at

    def step(self, what: str, done: int, total: int) -> None:
        if done == self.at:
            raise KeyboardInterrupt


def test_a_training_that_is_stopped_and_taken_up_ends_where_it_would_have(tmp_path: Path, untied_lm: LanguageModel):
    text, plan = _counting(1500), replace(_plan(), steps=12)

    def trained(name: str, at: int | None) -> torch.Tensor:
        torch.manual_seed(0)
        pair = Pair(untied_lm, join(Residual(tables="shared"), _part(tmp_path / name), untied_lm))
        lessons = RecordedBlocks(record(tmp_path, pair, text, LENGTH, llm="x"), text)
        if at is not None:
            with pytest.raises(Interrupted, match="Stopped at step 7 of 12 of small"):
                train(pair, lessons, plan, checkpoint_folder=tmp_path / name, progress=_Stopping(at), what="small")
            torch.manual_seed(5)
            pair = Pair(untied_lm, join(Residual(tables="shared"), _part(tmp_path / name), untied_lm))
            train(pair, lessons, plan, checkpoint_folder=tmp_path / name, what="small")
        else:
            train(pair, lessons, plan)
        return torch.cat([parameter.detach().flatten() for parameter in pair.small.parameters()])

    assert torch.equal(trained("stopped", 7), trained("straight", None))


def test_live_blocks_are_learnt_as_well(tmp_path: Path, untied_lm: LanguageModel):
    text = _counting(1500)
    pair = Pair(untied_lm, join(Residual(tables="shared"), _part(tmp_path / "part"), untied_lm))
    train(pair, Blocks(text, LENGTH), _plan(60))
    assert _loss(pair, text) < 1.0
