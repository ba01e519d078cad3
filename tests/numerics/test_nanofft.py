"""The feed-forward-in-time family: causal at any length, blind to padding, equal token by token when decoding, able to learn."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from transformers import DynamicCache

from underdog import caches
from underdog.errors import PromptTooLong
from underdog.inference.batches import collate
from underdog.inference.layout import Layout
from underdog.nanofft.configuration import NanoFFTConfig, changed, large, small
from underdog.nanofft.mixing import MIXINGS
from underdog.nanofft.modeling import NanoFFTForCausalLM, equal_size, parameter_count

torch.set_num_threads(1)
NEAR = {"atol": 2e-5, "rtol": 1e-4}


def build(mixing: str, *, seed: int = 0, **sizes: int) -> NanoFFTForCausalLM:
    """A tiny model whose every weight matters."""
    shape = {
        "vocab_size": 31, "embedding_size": 12, "hidden_size": 16, "max_position_embeddings": 24, "num_hidden_layers": 3,
        "mixing_heads": 4, "mixing_taps": 5, "initializer_range": 0.4,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = NanoFFTForCausalLM(NanoFFTConfig(mixing=mixing, pad_token_id=0, eos_token_id=1, **(shape | sizes)))
    return model.eval()


@pytest.fixture(params=list(MIXINGS))
def mixing(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(mixing: str) -> NanoFFTForCausalLM:
    return build(mixing)


def texts(rows: int, length: int, seed: int = 0) -> Tensor:
    return torch.randint(2, 31, (rows, length), generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def logits(model: NanoFFTForCausalLM, tokens: Tensor, **more: Tensor) -> Tensor:
    return model(input_ids=tokens, **more).logits


def test_sizes_are_the_sources_to_the_digit():
    assert parameter_count(large()) == 36_297_036
    assert parameter_count(small()) == 9_756_156


def test_the_other_mixing_comes_in_equal_size():
    for config in (large(), small()):
        other = equal_size(config, "decay")
        assert other.mixing == "decay"
        assert parameter_count(other) == pytest.approx(parameter_count(config), rel=1e-3)
        assert parameter_count(equal_size(other, "dense")) == pytest.approx(parameter_count(config), rel=1e-3)
    with pytest.raises(ValueError, match=r"has .* parameters at least, more than the .* of mixing 'dense'\. Compare models of"):
        equal_size(changed(small(), hidden_size=4096, intermediate_size=8), "decay")


@settings(max_examples=30, deadline=None)
@given(
    mixing=st.sampled_from(list(MIXINGS)),
    longest=st.integers(2, 20),
    layers=st.integers(1, 4),
    width=st.sampled_from([4, 8, 12]),
    rows=st.integers(1, 3),
    data=st.data(),
)
def test_no_token_reaches_an_earlier_one(mixing, longest, layers, width, rows, data):
    """Every weight is drawn anew, those above the diagonals too: the mask holds in forward, not in the weights."""
    model = build(mixing, max_position_embeddings=longest, num_hidden_layers=layers, hidden_size=width, mixing_taps=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())) * 0.5)
    length = data.draw(st.integers(2, longest))
    place = data.draw(st.integers(1, length - 1))
    before = texts(rows, length)
    after = before.clone()
    after[:, place] = (before[:, place] + 7) % 31
    plain, perturbed = logits(model, before), logits(model, after)
    torch.testing.assert_close(perturbed[:, :place], plain[:, :place], atol=0, rtol=0)
    changes = (perturbed - plain).abs().amax((0, 2))
    assert float(changes[place]) > 1e-6
    cut = logits(model, before[:, :place])
    torch.testing.assert_close(cut, plain[:, :place], **NEAR)


def test_every_earlier_token_is_seen(model):
    """The published code's time mixing saw none of them, or only a few."""
    vectors = model.model.embed_tokens(texts(1, 24)).detach().requires_grad_()
    model(inputs_embeds=vectors).logits[0, -1].square().sum().backward()
    assert vectors.grad is not None
    assert (vectors.grad[0].abs().sum(-1) > 0).all()


def test_a_deep_copy_and_trained_weights_stay_causal(model):
    import copy

    other = copy.deepcopy(model).train()
    optimiser = torch.optim.SGD(other.parameters(), lr=0.1)
    tokens = texts(2, 24)
    for _ in range(3):
        optimiser.zero_grad()
        other(input_ids=tokens, labels=tokens).loss.backward()
        optimiser.step()
    perturbed = tokens.clone()
    perturbed[:, 20:] = 5
    torch.testing.assert_close(logits(other, perturbed)[:, :20], logits(other, tokens)[:, :20], atol=0, rtol=0)


def test_dense_mixing_is_the_plain_formula():
    """Against the equations, written out with loops over time."""
    model = build("dense", num_hidden_layers=1)
    tokens = texts(1, 7)
    inner, block = model.model, model.model.layers[0]
    with torch.no_grad():
        x = inner.embed_norm(inner.embed_tokens.weight[tokens[0]] + inner.embed_positions.weight[:7])
        x = x @ inner.project.weight.T + inner.project.bias
        x = block.mixing_norm(x)
        once = torch.stack([sum(block.mixing.first[i, j] * x[j] for j in range(i + 1)) for i in range(7)])
        x = x + torch.stack([sum(block.mixing.second[i, j] * once[j] for j in range(i + 1)) for i in range(7)])
        x = block.feed_norm(x)
        x = x + block.feed_out(torch.sin(block.feed_in(x)))
        head = model.lm_head.weight
        x = torch.nn.functional.layer_norm(x, x.shape[-1:], inner.norm.weight, inner.norm.bias, inner.norm.eps)
        expected = x @ head[:, :-1].T + head[:, -1]
    torch.testing.assert_close(logits(model, tokens)[0], expected, **NEAR)


def test_decay_mixing_is_the_plain_formula():
    mixing = build("decay").model.layers[1].mixing
    with torch.no_grad():
        states = torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(3))
        values, gate = mixing.value(states)[0], torch.nn.functional.silu(mixing.gate(states)[0])
        expected = torch.zeros(9, 16)
        for at in range(9):
            for channel in range(16):
                head = channel // 4
                for before in range(at + 1):
                    distance = at - before
                    weight = mixing.strength[head] * torch.sigmoid(mixing.decay[head]) ** distance
                    weight = weight + (mixing.taps[head, distance] if distance < 5 else 0)
                    expected[at, channel] += weight * values[before, channel]
        from underdog.nanofft.places import locate

        found = mixing(states, locate(9, 0, None, None, 24, "cpu"), None)[0]
    torch.testing.assert_close(found, gate * expected, **NEAR)


def test_logits_are_hidden_states_times_the_heads_weight_bias_included(model):
    with torch.no_grad():
        model.lm_head.weight[:, -1] = torch.linspace(-1, 1, 31)
        hidden = model.model(texts(2, 9)).last_hidden_state
        torch.testing.assert_close(logits(model, texts(2, 9)), hidden @ model.lm_head.weight.T)
    assert (hidden[..., -1] == 1).all()
    assert float(build(model.config.mixing).lm_head.weight[:, -1].detach().abs().max()) == 0, "the bias begins at 0"


@pytest.mark.parametrize("lengths", [(24, 24), (3, 17, 9), (1, 20)])
def test_padding_on_either_side_changes_nothing(model, lengths):
    longest = max(lengths)
    rows = [texts(1, length, seed=length)[0] for length in lengths]
    for left in (True, False):
        tokens, mask = torch.zeros(len(rows), longest, dtype=torch.long), torch.zeros(len(rows), longest, dtype=torch.long)
        places = [slice(longest - len(row), None) if left else slice(len(row)) for row in rows]
        for index, (row, place) in enumerate(zip(rows, places, strict=True)):
            tokens[index, place], mask[index, place] = row, 1
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        for found in (
            logits(model, tokens, attention_mask=mask, position_ids=positions),
            logits(model, tokens, attention_mask=mask),
        ):
            for index, (row, place) in enumerate(zip(rows, places, strict=True)):
                torch.testing.assert_close(found[index, place], logits(model, row[None])[0], **NEAR)
        if not left:  # causality alone keeps padding behind a text out of it
            for index, (row, place) in enumerate(zip(rows, places, strict=True)):
                torch.testing.assert_close(logits(model, tokens)[index, place], logits(model, row[None])[0], **NEAR)


@pytest.mark.parametrize("steps", [(1,) * 20, (5, 1, 1, 13), (19, 1), (7, 7, 6)])
def test_decoding_with_a_cache_equals_the_full_recomputation(model, steps):
    tokens, cache = texts(3, 20), DynamicCache()
    whole, parts, used = logits(model, tokens), [], 0
    for count in steps:
        with torch.no_grad():
            parts.append(model(input_ids=tokens[:, used : used + count], past_key_values=cache).logits)
        used += count
        assert cache.get_seq_length() == used
    torch.testing.assert_close(torch.cat(parts, 1), whole, **NEAR)


def test_decoding_a_batch_of_unlike_prompts_equals_each_alone(model):
    rows = [texts(1, length, seed=length)[0] for length in (3, 11, 7)]
    tokens = torch.stack([torch.nn.functional.pad(row, (11 - len(row), 0)) for row in rows])
    mask = (torch.arange(11) >= 11 - torch.tensor([[3], [11], [7]])).long()
    more = {"max_new_tokens": 12, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    together = model.generate(tokens, attention_mask=mask, **more)
    again = model.generate(tokens, attention_mask=mask, use_cache=False, **more)
    assert together.tolist() == again.tolist()
    for row, text in zip(rows, together, strict=True):
        written = row.tolist()
        for _ in range(12):
            written.append(int(logits(model, torch.tensor([written]))[0, -1].argmax()))
        assert text[11 - len(row) :].tolist() == written
    chunked = model.generate(tokens, attention_mask=mask, prefill_chunk_size=2, **more)
    assert chunked.tolist() == together.tolist()
    assert len({tuple(text[11:].tolist()) for text in together}) == 3, "the prompts must matter"


def test_padding_in_the_middle_of_what_is_cached_changes_nothing(model):
    """Rows that follow beginnings of unlike length, themselves padded, and go on token by token: as when a prompt is kept."""
    rows = [texts(1, 20, seed=seed)[0] for seed in range(3)]
    begun, more = [3, 9, 6], [7, 2, 5]
    cache, held, found = DynamicCache(), torch.zeros(3, 0, dtype=torch.bool), []
    steps = [(list(zip([0] * 3, begun, strict=True)), 9), ([(a, a + b) for a, b in zip(begun, more, strict=True)], 7)]
    steps += [([(a + b + step, a + b + step + 1) for a, b in zip(begun, more, strict=True)], 1) for step in range(4)]
    for spans, width in steps:
        tokens, new = torch.zeros(3, width, dtype=torch.long), torch.zeros(3, width, dtype=torch.bool)
        for index, (start, stop) in enumerate(spans):
            tokens[index, width - (stop - start) :], new[index, width - (stop - start) :] = rows[index][start:stop], True
        used = held.shape[1]
        held = torch.cat([held, new], 1)
        places = torch.arange(used + width)
        here = places[used:, None]
        visible = ((held[:, None] & (places <= here)) | (places == here))[:, None]
        positions = (held.cumsum(1) - 1).clamp(min=0)[:, used:]
        with torch.no_grad():
            found.append(model(tokens, attention_mask=visible, position_ids=positions, past_key_values=cache).logits[:, -1])
    for index, row in enumerate(rows):
        alone = logits(model, row[None])[0]
        ends = [begun[index] - 1, *(begun[index] + more[index] - 1 + step for step in range(5))]
        torch.testing.assert_close(torch.stack([step[index] for step in found]), alone[ends], **NEAR)


def test_beams_reorder_the_cache(model):
    more = {"max_new_tokens": 8, "num_beams": 3, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    assert model.generate(texts(2, 5), **more).tolist() == model.generate(texts(2, 5), use_cache=False, **more).tolist()


def test_branches_of_a_shared_prompt_equal_separate_texts(model):
    """Positions restart after the prompt, and a block mask keeps branches apart; with the prompt's beginning cached, too."""
    prompt, branches = texts(1, 6)[0].tolist(), [texts(1, 5, seed=seed)[0].tolist() for seed in (1, 2)]
    for skip in (0, 4):
        layout = Layout.of_prompt("q", prompt[skip:])
        ends = [layout.extend(branch, len(prompt) - skip - 1) for branch in branches]
        batch = collate([layout], past=skip)
        cache = caches.new_cache()
        with torch.no_grad():
            if skip:
                model.model(torch.tensor([prompt[:skip]]), past_key_values=cache)
            used = caches.repeated(cache, 1) if skip else None
            read = model.model(batch.tokens, batch.visible, batch.positions, used).last_hidden_state[0]
            for branch, end in zip(branches, ends, strict=True):
                alone = model.model(torch.tensor([prompt + branch])).last_hidden_state[0, -1]
                torch.testing.assert_close(read[end], alone, **NEAR)


def test_a_prompt_longer_than_the_positions_is_refused_with_both_numbers(model):
    message = r"a text of 25 tokens is longer than the model's 24 positions\. Shorten it, .* to 24 tokens, or choose a model"
    with pytest.raises(PromptTooLong, match=message):
        model(input_ids=texts(1, 25))
    with pytest.raises(PromptTooLong, match=message):
        model.generate(texts(1, 25), max_new_tokens=1, pad_token_id=0)
    cache = DynamicCache()
    with torch.no_grad():
        model(input_ids=texts(1, 24), past_key_values=cache)
    with pytest.raises(PromptTooLong, match=message):
        model(input_ids=texts(1, 1), past_key_values=cache)
    padded = torch.cat([torch.zeros(1, 6, dtype=torch.long), texts(1, 24)], 1)
    mask = (torch.arange(30) >= 6).long()[None]
    torch.testing.assert_close(logits(model, padded, attention_mask=mask)[:, 6:], logits(model, texts(1, 24)), **NEAR)


def test_a_step_does_not_cost_the_square_of_the_length(mixing):
    """Multiplications of one more token, counted: linear in what is cached."""
    from torch.utils.flop_counter import FlopCounterMode

    model = build(mixing, max_position_embeddings=300, num_hidden_layers=2)

    def flops(past: int) -> int:
        cache = DynamicCache()
        with torch.no_grad():
            model(input_ids=texts(2, past), past_key_values=cache)
            with FlopCounterMode(display=False) as counter:
                model(input_ids=texts(2, 1), past_key_values=cache)
        return counter.get_total_flops()

    first, second, third = flops(50), flops(150), flops(250)
    assert second - first == pytest.approx(third - second, abs=1)
    assert second - first <= 2 * (2 * 2) * 2 * 100 * 16, (
        "rows · matrices · layers · tokens · channels, twice for multiply and add"
    )


@pytest.mark.parametrize("autocast", [False, True])
def test_a_planted_rule_is_learnt(mixing, autocast):
    """Every token repeats the one three places before: with and without mixed precision."""
    model = build(mixing, seed=1, hidden_size=32, embedding_size=32, num_hidden_layers=2, initializer_range=0.1).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=4e-3)
    draw = torch.Generator().manual_seed(0)
    for _ in range(150):
        tokens = torch.randint(2, 31, (32, 3), generator=draw).repeat(1, 8)
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            found = model(input_ids=tokens).logits
        loss = torch.nn.functional.cross_entropy(found[:, 2:-1].float().flatten(0, 1), tokens[:, 3:].flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    tokens = torch.randint(2, 31, (64, 3), generator=draw).repeat(1, 8)
    right = (logits(model.eval(), tokens)[:, 2:-1].argmax(-1) == tokens[:, 3:]).float().mean()
    assert float(right) > 0.99
    written = model.generate(tokens[:5, :7], max_new_tokens=17, do_sample=False, eos_token_id=None, pad_token_id=0)
    assert float((written == tokens[:5]).float().mean()) > 0.98
