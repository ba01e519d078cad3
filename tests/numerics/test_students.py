"""A shrunk student computes exactly what its parent computes with the same parts left out."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import AutoModelForCausalLM, AutoTokenizer, SmolLM3Config, SmolLM3ForCausalLM

import lessons
import pairs
import tiny
from underdog import models
from underdog.inference.answerer import ModelAnswerer
from underdog.models import LanguageModel
from underdog.settings import Settings
from underdog.students.depth import block_influence, keep_layers, most_influential
from underdog.students.ladder import Ladder
from underdog.students.vocabulary import trim_vocabulary
from underdog.students.width import narrow_feed_forward
from underdog.training.loop import Plan, train

TASK = tiny.TEXTS[:4]
OTHER = ("Something else: naïve café ☃ 数学 \x00\x7f\u200b\U0001f469\u200d\U0001f4bb", "activate my transfer", "  \n\t x")


@pytest.fixture(params=["tiny_lm", "untied_lm", "gemma_lm"])
def lm(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def fallback_lm(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """A Llama whose tokenizer falls back to bytes, as Gemma's and Llama 2's do."""
    folder = tiny.write_llama(tmp_path_factory.mktemp("models") / "fallback", vocab_size=500)
    tiny.byte_fallback_tokenizer().save_pretrained(folder)
    return tiny.load(folder)


def _logits(lm: LanguageModel, tokens: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return lm.model(input_ids=torch.tensor([tokens])).logits[0]


def _weights(lm: LanguageModel) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in lm.model.parameters()]


def _pieces(lm: LanguageModel, text: str) -> list[str]:
    return lm.tokenizer.convert_ids_to_tokens(lm.encode([text])[0])


def _old_ids(parent: LanguageModel, student: LanguageModel) -> list[int]:
    """The parent's id of each of the student's tokens."""
    return parent.tokenizer.convert_tokens_to_ids(student.tokenizer.convert_ids_to_tokens(list(range(len(student.tokenizer)))))


@pytest.fixture(params=["tiny_lm", "untied_lm", "gemma_lm", "fallback_lm"])
def parent(request: pytest.FixtureRequest) -> LanguageModel:
    return request.getfixturevalue(request.param)


def test_a_trimmed_tokenizer_cuts_the_tasks_text_into_the_same_tokens(parent):
    student = trim_vocabulary(parent, TASK)
    assert len(student.tokenizer) == len(student.head_weight) < len(parent.head_weight)
    for text in (*TASK, TASK[0] + TASK[2]):
        assert _pieces(student, text) == _pieces(parent, text)
    for special in ("eos_token", "pad_token"):
        assert getattr(student.tokenizer, special) == getattr(parent.tokenizer, special)
    assert student.tokenizer.decode([student.end]) == parent.tokenizer.decode([parent.end])
    assert student.config.eos_token_id == student.end
    assert student.config.pad_token_id == student.pad


def test_a_trimmed_model_gives_its_parents_logits_for_the_tokens_it_keeps(parent):
    student = trim_vocabulary(parent, TASK)
    kept = _old_ids(parent, student)
    assert len(set(kept)) == len(kept)
    for text in (*TASK, *OTHER):
        tokens = student.encode([text])[0]
        torch.testing.assert_close(_logits(student, tokens), _logits(parent, [kept[token] for token in tokens])[:, kept])


def test_kept_tokens_share_what_the_dropped_ones_had(tiny_lm):
    """Probabilities are the parent's, normalised over the kept tokens."""
    student = trim_vocabulary(tiny_lm, TASK)
    kept, tokens = _old_ids(tiny_lm, student), student.encode([TASK[0]])[0]
    full = _logits(tiny_lm, [kept[token] for token in tokens]).softmax(-1)[:, kept]
    torch.testing.assert_close(_logits(student, tokens).softmax(-1), full / full.sum(-1, keepdim=True))


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)


@pytest.fixture(scope="module")
def byte_level_student(tiny_lm: LanguageModel) -> LanguageModel:
    return trim_vocabulary(tiny_lm, TASK)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXT)
def test_any_text_comes_back_from_a_byte_level_student(byte_level_student, text):
    tokenizer = byte_level_student.tokenizer
    tokens = byte_level_student.encode([text])[0]
    assert tokenizer.decode(tokens) == text
    assert all(0 <= token < len(byte_level_student.head_weight) for token in tokens)


@pytest.fixture(scope="module")
def fallback_student(fallback_lm: LanguageModel) -> LanguageModel:
    return trim_vocabulary(fallback_lm, TASK)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TEXT)
def test_any_text_comes_back_from_a_student_with_byte_fallback(fallback_student, fallback_lm, text):
    tokens = fallback_student.encode([text])[0]
    assert fallback_student.tokenizer.decode(tokens) == fallback_lm.tokenizer.decode(fallback_lm.encode([text])[0])
    assert fallback_student.tokenizer.unk_token_id not in tokens


def test_a_saved_student_is_an_ordinary_model_folder(parent, tmp_path):
    """Stock transformers loads it, cuts text alike and gives the same logits; nothing of the parent's size is left."""
    student = keep_layers(narrow_feed_forward(trim_vocabulary(parent, TASK), 64, TASK), [0, 2])
    models.save(student, tmp_path / "student")
    assert not list(tmp_path.glob("*.partial"))
    stock, cutter = (
        AutoModelForCausalLM.from_pretrained(tmp_path / "student"),
        AutoTokenizer.from_pretrained(tmp_path / "student"),
    )
    again = models.load(str(tmp_path / "student"), Settings(cache=tmp_path), device="cpu")
    assert len(cutter) == stock.config.vocab_size == len(student.head_weight)
    assert stock.config.num_hidden_layers == 2
    assert stock.config.intermediate_size == 64
    assert sum(p.numel() for p in stock.parameters()) == student.parameter_count() == again.parameter_count()
    for text in (*TASK, *OTHER):
        (tokens,) = student.encode([text])
        assert cutter(text, add_special_tokens=False)["input_ids"] == tokens == again.encode([text])[0]
        with torch.no_grad():
            torch.testing.assert_close(stock(input_ids=torch.tensor([tokens])).logits[0], _logits(student, tokens))
    assert cutter.eos_token_id == student.end == stock.generation_config.eos_token_id
    weights = sum(path.stat().st_size for path in (tmp_path / "student").glob("*.safetensors"))
    assert weights < 4.2 * student.parameter_count() + 8192


def test_a_students_answers_survive_saving_and_loading(tiny_lm, tmp_path):
    questions = [example.question for example in lessons.examples()]
    texts = [question.prompt + question.cue for question in questions] + [" " + label for label in lessons.LABELS]
    student = keep_layers(trim_vocabulary(tiny_lm, texts), [0, 1])
    models.save(student, tmp_path / "student")
    loaded = models.load(str(tmp_path / "student"), Settings(cache=tmp_path), device="cpu")
    for mine, other in zip(
        *(ModelAnswerer(each, precision="float32").answer(questions) for each in (student, loaded)), strict=True
    ):
        np.testing.assert_allclose(mine.log_probabilities, other.log_probabilities, rtol=1e-5)


def test_trimming_twice_is_trimming_once(tiny_lm):
    once = trim_vocabulary(tiny_lm, TASK)
    twice = trim_vocabulary(once, TASK)
    assert twice.tokenizer.get_vocab() == once.tokenizer.get_vocab()
    torch.testing.assert_close(twice.head_weight, once.head_weight)


def test_dropping_no_layer_changes_nothing(lm):
    whole = keep_layers(lm, range(len(lm.layers)))
    tokens = lm.encode([TASK[1]])[0]
    torch.testing.assert_close(_logits(whole, tokens), _logits(lm, tokens), rtol=0, atol=0)
    assert whole.parameter_count() == lm.parameter_count()


def _bypassed(lm: LanguageModel, keep: list[int], tokens: list[int]) -> torch.Tensor:
    """Logits of the whole model with all layers but `keep` handing on what they are given."""
    hooks = [
        layer.register_forward_hook(
            lambda module, inputs, keywords, output: inputs[0] if inputs else keywords["hidden_states"], with_kwargs=True
        )
        for index, layer in enumerate(lm.layers)
        if index not in keep
    ]
    try:
        return _logits(lm, tokens)
    finally:
        for hook in hooks:
            hook.remove()


@pytest.mark.parametrize("keep", [[0], [1], [0, 2], [1, 2]])
def test_a_model_with_layers_dropped_is_the_model_with_those_layers_bypassed(lm, keep):
    student = keep_layers(lm, keep)
    tokens = lm.encode([TASK[1]])[0]
    torch.testing.assert_close(_logits(student, tokens), _bypassed(lm, keep, tokens), rtol=1e-5, atol=1e-5)
    assert len(student.layers) == len(keep)


def test_layers_of_two_kinds_keep_their_kind(gemma_lm):
    """The tiny Gemma's last layer alone sees everything; the others see 128 tokens back."""
    assert keep_layers(gemma_lm, [1, 2]).config.layer_types == ["sliding_attention", "full_attention"]
    long = gemma_lm.encode(["Where is my card, please, and why did it take so long to arrive? " * 5])[0]
    assert len(long) > gemma_lm.config.sliding_window
    last = keep_layers(gemma_lm, [2])
    moved = [*long]
    moved[0] = 40
    assert not torch.allclose(_logits(last, long)[-1], _logits(last, moved)[-1], atol=1e-6), "it still sees the first token"
    first = keep_layers(gemma_lm, [0])
    torch.testing.assert_close(_logits(first, long)[-1], _logits(first, moved)[-1])


def _with_an_idle_layer(lm: LanguageModel, index: int) -> LanguageModel:
    """A copy of which one layer adds nothing to what passes through it."""
    idle = models.copied(lm)
    with torch.no_grad():
        idle.layers[index].self_attn.o_proj.weight.zero_()
        idle.layers[index].mlp.down_proj.weight.zero_()
    return idle


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_layer_that_does_nothing_has_no_influence_and_goes_first(lm, index):
    idle = _with_an_idle_layer(lm, index)
    influence = block_influence(idle, tiny.TEXTS)
    assert influence[index] == pytest.approx(0, abs=1e-6)
    assert all(other > 1e-3 for place, other in enumerate(influence) if place != index)
    keep = most_influential(influence, 2)
    assert keep == [place for place in range(3) if place != index]
    tokens = idle.encode([TASK[1]])[0]
    torch.testing.assert_close(_logits(keep_layers(idle, keep), tokens), _logits(idle, tokens), rtol=1e-5, atol=1e-5)


def test_influence_is_one_minus_the_mean_cosine_over_all_tokens(lm):
    """Against hidden states of the stock model, one text at a time: batches and padding count for nothing."""
    cosines: list[list[torch.Tensor]] = [[] for _ in lm.layers]
    hooks = [
        layer.register_forward_hook(
            lambda module, inputs, keywords, output, into=into: into.append(
                torch.cosine_similarity(
                    inputs[0] if inputs else keywords["hidden_states"], output[0] if isinstance(output, tuple) else output, dim=-1
                ).flatten()
            ),
            with_kwargs=True,
        )
        for layer, into in zip(lm.layers, cosines, strict=True)
    ]
    try:
        for text in tiny.TEXTS:
            _logits(lm, lm.encode([text])[0])
    finally:
        for hook in hooks:
            hook.remove()
    expected = [float(1 - torch.cat(each).mean()) for each in cosines]
    for budget in (1, 60, 4096):
        np.testing.assert_allclose(block_influence(lm, tiny.TEXTS, budget), expected, rtol=1e-4, atol=1e-6)


def test_a_text_beyond_the_positions_is_judged_by_its_beginning():
    lm = pairs.nanofft(max_position_embeddings=12)
    long = " ".join(tiny.TEXTS)
    begins = lm.tokenizer.decode(lm.encode([long])[0][:12])
    assert block_influence(lm, [long]) == pytest.approx(block_influence(lm, [begins]))


def test_layers_of_equal_influence_are_kept_in_their_own_order():
    assert most_influential([0.5, 0.1, 0.9, 0.1], 3) == [0, 1, 2]
    assert most_influential([0.1, 0.2, 0.3], 1) == [2]


def test_narrowing_to_the_full_width_changes_nothing(lm):
    same = narrow_feed_forward(lm, 128, TASK)
    tokens = lm.encode([TASK[1]])[0]
    torch.testing.assert_close(_logits(same, tokens), _logits(lm, tokens), rtol=0, atol=0)


def test_neurons_that_never_fire_are_dropped_without_a_change(lm):
    idle = models.copied(lm)
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for layer in idle.layers:
            layer.mlp.up_proj.weight[torch.randperm(128, generator=draw)[:64]] = 0.0
    student = narrow_feed_forward(idle, 64, TASK)
    for text in (*TASK, *tiny.TEXTS):
        tokens = idle.encode([text])[0]
        torch.testing.assert_close(_logits(student, tokens), _logits(idle, tokens), rtol=1e-4, atol=1e-4)
    assert student.parameter_count() == idle.parameter_count() - 3 * 3 * 64 * 32


def test_the_most_active_neurons_are_kept(tiny_lm):
    """Held against each neuron's own activations, one text at a time."""
    layer = tiny_lm.layers[1].mlp
    seen = []
    hook = layer.down_proj.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0][0]))
    for text in tiny.TEXTS:
        _logits(tiny_lm, tiny_lm.encode([text])[0])
    hook.remove()
    strongest = torch.cat(seen).square().mean(0).topk(64).indices.sort().values
    student = narrow_feed_forward(tiny_lm, 64, tiny.TEXTS)
    torch.testing.assert_close(student.layers[1].mlp.gate_proj.weight, layer.gate_proj.weight[strongest])
    torch.testing.assert_close(student.layers[1].mlp.down_proj.weight, layer.down_proj.weight[:, strongest])


def _ladder(lm: LanguageModel) -> Ladder:
    texts = [example.question.prompt for example in lessons.examples()]
    return Ladder(lm, texts, [" " + label for label in lessons.LABELS], texts)


def test_a_shapes_parameters_are_those_of_the_built_student(lm):
    ladder, whole = _ladder(lm), lm.parameter_count()
    seen = set()
    for share in np.linspace(0.05, 1.1, 22):
        shape = ladder.shape(int(share * whole))
        student = ladder.build(shape)
        assert student.parameter_count() == shape.parameters, shape
        assert len(student.layers) == shape.layers
        assert len(student.head_weight) == shape.tokens
        assert student.config.intermediate_size == shape.neurons
        seen.add(shape)
    assert len(seen) > 4


def test_a_size_is_met_as_nearly_as_the_ladder_allows(lm):
    ladder = _ladder(lm)
    rungs = {ladder.shape(size).parameters for size in range(500, lm.parameter_count(), 500)}
    for size in range(1000, int(0.94 * lm.parameter_count()), 1700):
        nearest = min(abs(rung - size) for rung in rungs)
        off = abs(ladder.shape(size).parameters - size)
        assert off <= max(0.1 * size, nearest + 0.05 * size + 1), "whole layers may be a tenth off, wider ones a twentieth"


def test_nineteen_twentieths_take_the_whole_model(lm):
    ladder, whole = _ladder(lm), lm.parameter_count()
    assert ladder.shape(int(0.951 * whole)).whole
    assert ladder.shape(2 * whole).whole
    assert not ladder.shape(int(0.949 * whole)).whole
    shape = ladder.shape(whole)
    assert (shape.parameters, shape.layers, shape.tokens) == (whole, 3, len(lm.head_weight))
    assert shape.describe() == "whole model"


def test_the_smallest_sizes_give_the_smallest_student(tiny_lm):
    ladder = _ladder(tiny_lm)
    assert {ladder.shape(size).parameters for size in (1, 9, 10, 100)} == {ladder.shape(1000).parameters}
    assert ladder.shape(1).layers == 1


def test_rare_tokens_go_only_for_sizes_that_cannot_be_reached_otherwise(tiny_lm):
    frequent = [" exchange rate", " transfer timing"] * 30
    once = [" chargeback", " bulletproof", " reconciliation"]
    ladder = Ladder(tiny_lm, frequent + once * 10, [" card"], frequent[:4])
    shapes = {size: ladder.shape(size) for size in range(12_000, 30_000, 300)}
    times = [shape.times for shape in shapes.values()]
    assert times == sorted(times, reverse=True) and times[0] > 10 >= times[-1]
    usual = min(shape.parameters for shape in shapes.values() if shape.times <= 10)
    for size, shape in shapes.items():
        assert (shape.times > 10) == (1.1 * size < usual), size
        assert shape.times <= 10 or shape.parameters < usual


def test_training_a_student_never_touches_its_parent(lm):
    ladder, whole = _ladder(lm), lm.parameter_count()
    before = _weights(lm)
    for share in (0.3, 0.6, 0.9, 1.0):
        shape = ladder.shape(int(share * whole))
        student = ladder.build(shape)
        fresh = _weights(student)
        train(student, lessons.layouts(student, 6), Plan(epochs=1, learning_rate=1e-2, batch_size=6, precision="float32"))
        assert any(not torch.equal(a, b) for a, b in zip(fresh, _weights(student), strict=True))
        again = ladder.build(shape)
        assert all(torch.equal(a, b) for a, b in zip(fresh, _weights(again), strict=True)), "a student built again is fresh"
    assert all(torch.equal(a, b) for a, b in zip(before, _weights(lm), strict=True))


def test_shrinking_ways_never_share_storage_with_the_parent(lm):
    storages = {parameter.data_ptr() for parameter in lm.model.parameters()}
    for student in (trim_vocabulary(lm, TASK), keep_layers(lm, [0, 1, 2]), narrow_feed_forward(lm, 128, TASK), models.copied(lm)):
        assert storages.isdisjoint(parameter.data_ptr() for parameter in student.model.parameters())


def test_tied_tables_stay_tied_and_untied_ones_untied(tiny_lm, untied_lm):
    for lm, tied in ((tiny_lm, True), (untied_lm, False)):
        for student in (trim_vocabulary(lm, TASK), keep_layers(lm, [0]), narrow_feed_forward(lm, 64, TASK), models.copied(lm)):
            assert (student.head_weight is student.model.get_input_embeddings().weight) is tied


def test_a_saved_tokenizer_names_no_token_that_is_gone(tiny_lm, tmp_path):
    student = trim_vocabulary(tiny_lm, TASK)
    models.save(student, tmp_path / "student")
    description = json.loads((tmp_path / "student" / "tokenizer.json").read_text())
    vocabulary = description["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(len(student.head_weight)))
    for left, right in description["model"]["merges"]:
        assert {left, right, left + right} <= vocabulary.keys()
    config = json.loads((tmp_path / "student" / "tokenizer_config.json").read_text())
    for number in config.get("added_tokens_decoder", {}):
        assert int(number) < len(student.head_weight)
    assert Path(tmp_path / "student" / "config.json").exists()


def test_layers_without_rotary_positions_keep_that(tmp_path):
    """SmolLM3 lists in its config which layers turn queries and keys by their position."""
    cutter = tiny.tokenizer()
    config = SmolLM3Config(
        vocab_size=len(cutter), hidden_size=32, intermediate_size=128, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, initializer_range=0.4,
        pad_token_id=1, bos_token_id=None, eos_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    SmolLM3ForCausalLM(config).save_pretrained(tmp_path / "parent")
    cutter.save_pretrained(tmp_path / "parent")
    lm = tiny.load(tmp_path / "parent")
    student = keep_layers(lm, [1, 3])
    assert (lm.config.no_rope_layers, student.config.no_rope_layers) == ([1, 1, 1, 0], [1, 0])
    tokens = lm.encode([TASK[1]])[0]
    torch.testing.assert_close(_logits(student, tokens), _bypassed(lm, [1, 3], tokens), rtol=1e-5, atol=1e-5)
    models.save(student, tmp_path / "student")
    torch.testing.assert_close(_logits(tiny.load(tmp_path / "student"), tokens), _logits(student, tokens))


def test_feed_forward_layers_with_biases_are_narrowed_too(tmp_path):
    lm = tiny.load(tiny.write_llama(tmp_path / "biased", mlp_bias=True))
    with torch.no_grad():
        for layer in lm.layers:
            for part in (layer.mlp.gate_proj, layer.mlp.up_proj, layer.mlp.down_proj):
                part.bias.normal_()
            layer.mlp.down_proj.weight[:, ::2] = 0.0
            layer.mlp.up_proj.weight[::2] = 0.0
            layer.mlp.up_proj.bias[::2] = 0.0
    student = narrow_feed_forward(lm, 64, TASK)
    tokens = lm.encode([TASK[1]])[0]
    torch.testing.assert_close(_logits(student, tokens), _logits(lm, tokens), rtol=1e-4, atol=1e-4)
    ladder = _ladder(lm)
    shape = ladder.shape(lm.parameter_count() // 2)
    assert ladder.build(shape).parameter_count() == shape.parameters


def test_a_placeholder_that_serves_for_padding_is_kept(tmp_path):
    folder = tiny.write_llama(tmp_path / "reserved", vocab_size=400)
    cutter = tiny.tokenizer()
    cutter.add_tokens([AddedToken("<|reserved_1|>", special=True), AddedToken("<|reserved_2|>", special=True)])
    cutter.pad_token = "<|reserved_2|>"
    cutter.save_pretrained(folder)
    lm = tiny.load(folder)
    student = trim_vocabulary(lm, TASK)
    assert len(student.tokenizer) == len(student.head_weight)
    assert student.pad < len(student.head_weight)
    assert student.tokenizer.convert_ids_to_tokens(student.pad) == "<|reserved_2|>"
    assert "<|reserved_1|>" not in student.tokenizer.get_vocab()
