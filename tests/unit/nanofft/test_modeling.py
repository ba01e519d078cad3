"""Saved, loaded, adapted and asked through the same doors as any other model."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer

from underdog import models
from underdog.errors import UnknownName
from underdog.inference.embedding import embed
from underdog.inference.generation import Plan, write_batch
from underdog.inference.head import edge_log_probabilities
from underdog.models import LanguageModel
from underdog.nanofft.configuration import NanoFFTConfig
from underdog.nanofft.mixing import MIXINGS
from underdog.nanofft.modeling import NanoFFTForCausalLM, NanoFFTModel, register
from underdog.nanofft.tokens import train_tokenizer
from underdog.settings import Settings

torch.set_num_threads(1)
TEXTS = ("to be, or not to be, that is the question.", "the rest is silence", "what, has this thing appeared again to-night?")


@pytest.fixture(params=list(MIXINGS))
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    """A tiny model with its tokenizer."""
    cutter = train_tokenizer(TEXTS, 120)
    config = NanoFFTConfig(
        vocab_size=len(cutter), embedding_size=12, hidden_size=16, max_position_embeddings=40, num_hidden_layers=2,
        mixing=request.param, mixing_heads=4, initializer_range=0.4, pad_token_id=0, eos_token_id=1,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return LanguageModel("tiny", NanoFFTForCausalLM(config).eval(), cutter)


def test_stock_classes_load_what_was_saved(lm: LanguageModel, tmp_path: Path) -> None:
    register()
    register()
    models.save(lm, tmp_path / "model")
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert sum(tensor.numel() for tensor in stored.values()) == lm.parameter_count()
    assert not list((tmp_path / "model").glob("*.bin"))
    config = AutoConfig.from_pretrained(tmp_path / "model")
    assert isinstance(config, NanoFFTConfig)
    assert config.mixing == lm.config.mixing
    loaded = AutoModelForCausalLM.from_pretrained(tmp_path / "model", attn_implementation="sdpa")
    assert isinstance(loaded, NanoFFTForCausalLM)
    tokens = torch.tensor(lm.encode(TEXTS[:1]))
    with torch.no_grad():
        torch.testing.assert_close(loaded(tokens).logits, lm.model(tokens).logits, atol=0, rtol=0)
        base = AutoModel.from_pretrained(tmp_path / "model")
        assert isinstance(base, NanoFFTModel)
        torch.testing.assert_close(base(tokens).last_hidden_state, lm.backbone(tokens).last_hidden_state, atol=0, rtol=0)
    cutter = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert cutter(TEXTS[0])["input_ids"] == lm.encode(TEXTS[:1])[0]


def test_the_door_to_models_takes_it_as_any_other(lm: LanguageModel, tmp_path: Path) -> None:
    register()
    models.save(lm, tmp_path / "model")
    settings = Settings(cache=tmp_path / "cache", offline=True)
    loaded = models.load(str(tmp_path / "model"), settings, device="cpu")
    assert loaded.max_length == 40
    assert loaded.parameter_count() == models.parameters_of(str(tmp_path / "model"), settings) == lm.parameter_count()
    vectors = embed(loaded, TEXTS)
    alone = embed(loaded, TEXTS[:1])
    assert vectors.shape == (3, 17)
    torch.testing.assert_close(torch.tensor(vectors[:1]), torch.tensor(alone), atol=1e-5, rtol=1e-4)
    adapted = models.with_lora(models.copied(loaded), rank=2)
    assert 0 < adapted.trainable_count() < loaded.parameter_count()


def test_own_batches_write_what_each_prompt_alone_writes(lm: LanguageModel) -> None:
    """Padded on the left, in a cache with room, from which rows leave when they have ended."""
    prompts = lm.encode([*TEXTS, "t", "the "])
    plans = [Plan(3 + 4 * (index % 3)) for index in range(len(prompts))]
    together = [text.tokens for text in write_batch(lm, prompts, plans)]
    for prompt, plan, found in zip(prompts, plans, together, strict=True):
        written = list(prompt)
        for _ in range(plan.max_tokens):
            with torch.no_grad():
                token = int(lm.model(torch.tensor([written])).logits[0, -1].argmax())
            if token in lm.ends:
                break
            written.append(token)
        assert list(found) == written[len(prompt) :]
    assert len(set(together)) > 2, "the prompts must matter"


def test_the_bias_learns_through_the_head_at_edges(lm: LanguageModel) -> None:
    tokens = torch.tensor(lm.encode(TEXTS[:1]))
    head = lm.head_weight
    hidden = lm.backbone(tokens).last_hidden_state[0]
    edges = torch.arange(len(hidden) - 1)
    found = edge_log_probabilities(hidden, head, edges, tokens[0, 1:])
    plain = torch.nn.functional.linear(hidden[:, :-1], head[:, :-1], head[:, -1]).log_softmax(-1)[edges, tokens[0, 1:]]
    torch.testing.assert_close(found, plain)
    (gradient,) = torch.autograd.grad(found.sum(), head)
    assert float(gradient[:, -1].abs().max()) > 0
    labelled = lm.model(tokens, labels=tokens).loss
    torch.testing.assert_close(labelled, -found.mean())


def test_first_weights_keep_states_and_loss_in_bounds() -> None:
    """Untrained, the loss is near that of guessing, at every depth; above the diagonals stands zero."""
    for mixing in MIXINGS:
        for layers in (1, 12):
            config = NanoFFTConfig(vocab_size=200, embedding_size=64, hidden_size=48, max_position_embeddings=60,
                                   num_hidden_layers=layers, mixing=mixing)  # fmt: skip
            torch.manual_seed(0)
            model = NanoFFTForCausalLM(config)
            tokens = torch.randint(0, 200, (4, 60))
            states: list[torch.Tensor] = []
            for layer in model.model.layers:
                layer.register_forward_hook(lambda module, inputs, output, states=states: states.append(output))
            with torch.no_grad():
                loss = float(model(tokens, labels=tokens).loss)
            assert loss == pytest.approx(math.log(200), abs=0.1)
            assert all(0.3 < float(state.std()) < 4 for state in states)
            if mixing == "dense":
                assert float(model.model.layers[0].mixing.first.detach().triu(1).abs().max()) == 0


def test_shapes_that_cannot_be_are_refused() -> None:
    with pytest.raises(UnknownName, match=r"no mixing is called 'decey'\. Did you mean 'decay'\? Known: decay, dense"):
        NanoFFTForCausalLM(NanoFFTConfig(mixing="decey"))
    with pytest.raises(Exception, match=r"hidden_size 30 cannot be cut into 8 equal heads\. Choose mixing_heads that divide it"):
        NanoFFTConfig(hidden_size=30)
    with pytest.raises(Exception, match=r"num_hidden_layers is 0\. Allowed: 1 or more"):
        NanoFFTConfig(num_hidden_layers=0)
    with pytest.raises(ValueError, match=r"hidden_size is 5\. Allowed with mixing 'decay': an even number"):
        NanoFFTForCausalLM(NanoFFTConfig(hidden_size=5, mixing_heads=5, mixing="decay"))
    model = NanoFFTForCausalLM(NanoFFTConfig(vocab_size=9, embedding_size=4, hidden_size=8, num_hidden_layers=1))
    with pytest.raises(ValueError, match=r"mask of shape \(1, 1, 2, 2\) and type torch\.float32 is not understood\. Allowed: \["):
        model(torch.tensor([[1, 2]]), attention_mask=torch.zeros(1, 1, 2, 2))


def test_the_config_is_plain_json(lm: LanguageModel, tmp_path: Path) -> None:
    lm.config.save_pretrained(tmp_path)
    kept = json.loads((tmp_path / "config.json").read_text())
    assert kept["model_type"] == "nanofft"
    assert kept["intermediate_size"] == kept["embedding_size"] == 12
