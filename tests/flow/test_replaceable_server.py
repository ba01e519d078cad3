"""A follower's predictions from a real server: llama.cpp's, with the real SmolLM2, are those of the same weights read here."""

from pathlib import Path

import numpy as np
import pytest
import torch

from llama_server import llama_server
from underdog.knowledge.store import Store
from underdog.models import LanguageModel
from underdog.settings import Settings
from underdog.systems.replaceable import remote
from underdog.systems.replaceable.kinds import Follower
from underdog.systems.replaceable.remote import RemoteLLM
from underdog.systems.replaceable.small import FollowerSmall, join
from underdog.task.teachers import RemoteTeacher

pytestmark = pytest.mark.models

TEXT = "The capital of France is Paris. The capital of Italy is Rome, and the capital of Spain is Madrid."


@pytest.fixture(scope="module")
def gguf(request: pytest.FixtureRequest) -> Path:
    pytest.importorskip("xllamacpp", reason="needs llama.cpp's server, from the package xllamacpp")
    return request.getfixturevalue("smollm2_gguf")


def test_predictions_of_a_server_are_those_of_its_weights_here(gguf: Path, smollm2: LanguageModel, tmp_path: Path) -> None:
    tokens = np.array(smollm2.encode([TEXT])[0])
    length = len(tokens) - 1
    small = join(Follower(temperature=0.0), smollm2, None)
    assert isinstance(small, FollowerSmall)
    with Store.open(tmp_path / "knowledge.sqlite") as store, llama_server(gguf) as url:
        teacher = RemoteTeacher(name="llama", model="smollm2", url=url, concurrency=2, timeout_s=200)
        llm = RemoteLLM.connect(teacher, smollm2, store, Settings(cache=tmp_path))
        recorded = remote.record(llm, small, tokens, length, blocks=1)
        assert sum(count.records for count in store.counts()) == length
    with torch.no_grad():
        here = smollm2.model(input_ids=torch.from_numpy(tokens[None, :length])).logits[0].argmax(-1)
    alike = (recorded.rows([0])[0] == here).float().mean()
    assert float(alike) > 0.8, "quantised arithmetic may part where two tokens are nearly as likely"
