"""A local model that writes: chat templates, order, limits, and what a reply says about itself."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

import tiny
from underdog.models import LanguageModel
from underdog.settings import Settings
from underdog.teachers.generating import LocalWriter, local_writer
from underdog.teachers.writing import Failure, Reply, Request, Sampling

CHAT = "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}{% if add_generation_prompt %}<reply>{% endif %}"


def requests(*samplings: Sampling) -> list[Request]:
    """One request for each text that the tokenizer learnt from, with the samplings in turn."""
    return [Request("tiny", "1", text, samplings[index % len(samplings)]) for index, text in enumerate(tiny.TEXTS)]


def written(lm: LanguageModel, asked: Sequence[Request], budget: int | None = None) -> dict[str, Reply | Failure]:
    replies = list(LocalWriter(lm, tokens_per_batch=budget).write(asked))
    assert sorted(request.key for request, _ in replies) == sorted(request.key for request in asked), "each comes once"
    return {request.key: reply for request, reply in replies}


def test_a_reply_follows_from_its_request_alone(tiny_lm):
    asked = requests(Sampling(10), Sampling(7, 0.9, 0.8, seed=3), Sampling(4, 1.3))
    together = written(tiny_lm, asked)
    for budget, group in ((1, asked), (90, asked), *((None, [request]) for request in asked)):
        for key, reply in written(tiny_lm, group, budget).items():
            other = together[key]
            assert isinstance(reply, Reply)
            assert isinstance(other, Reply)
            assert replace(reply, seconds=0) == replace(other, seconds=0)


def test_another_seed_draws_another_reply_and_the_same_seed_differs_by_prompt(tiny_lm):
    one, other = (written(tiny_lm, requests(Sampling(12, 1.0, seed=seed))) for seed in (0, 1))
    texts = [reply.text for reply in (*one.values(), *other.values()) if isinstance(reply, Reply)]
    assert len(set(texts)) == 14


def test_tokens_and_time_are_counted_and_the_finish_is_told(tiny_lm):
    (whole,) = written(tiny_lm, requests(Sampling(12))[:1]).values()
    assert isinstance(whole, Reply)
    assert (whole.finish, whole.output_tokens, whole.usd) == ("length", 12, 0.0)
    assert whole.input_tokens == len(tiny_lm.encode([tiny.TEXTS[0]])[0])
    assert whole.seconds > 0
    stop = whole.text[4:7]
    (cut,) = written(tiny_lm, [Request("tiny", "1", tiny.TEXTS[0], Sampling(12, stop=(stop,)))]).values()
    assert isinstance(cut, Reply)
    assert (cut.text, cut.finish) == (whole.text[: whole.text.index(stop)].strip(), "stop")
    assert cut.output_tokens < 12


def test_a_chat_template_is_used_where_there_is_one(tiny_lm):
    chatty = replace(tiny_lm, tokenizer=tiny.tokenizer())
    chatty.tokenizer.chat_template = CHAT
    (spoken,) = chatty.encode(["<user>Where is my card?<reply>"])
    assert chatty.ask_tokens("Where is my card?") == spoken
    assert tiny_lm.ask_tokens("Where is my card?") == tiny_lm.encode(["Where is my card?"])[0]
    request = Request("tiny", "1", "Where is my card?", Sampling(8))
    (reply,) = written(chatty, [request]).values()
    (plain,) = written(tiny_lm, [replace(request, prompt="<user>Where is my card?<reply>")]).values()
    assert isinstance(reply, Reply)
    assert isinstance(plain, Reply)
    assert (reply.text, reply.input_tokens) == (plain.text, len(spoken))


def test_a_prompt_too_long_for_the_model_fails_alone(tiny_lm):
    long = Request("tiny", "1", "x " * 200, Sampling(100))
    short = Request("tiny", "1", "My card?", Sampling(3))
    replies = written(tiny_lm, [long, short])
    count = len(tiny_lm.encode([long.prompt])[0])
    assert replies[long.key] == Failure(
        f"prompt too long: its {count} tokens and 100 for the reply are more than the model's 256 positions. "
        "Ask with fewer examples, or for a shorter reply (max_tokens)."
    )
    assert isinstance(replies[short.key], Reply)
    assert written(tiny_lm, []) == {}


def test_memory_that_runs_out_halves_the_batch_and_changes_nothing(tiny_lm):
    asked = requests(Sampling(5))
    expected = {key: reply.text for key, reply in written(tiny_lm, asked).items() if isinstance(reply, Reply)}

    def limit(module, inputs, keywords):
        if len(keywords["input_ids"]) > 2:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 TB")

    hook = tiny_lm.backbone.register_forward_pre_hook(limit, with_kwargs=True)
    try:
        found = written(tiny_lm, asked)
    finally:
        hook.remove()
    assert {key: reply.text for key, reply in found.items() if isinstance(reply, Reply)} == expected


def test_a_writer_is_loaded_by_the_models_name(tiny_folder, tmp_path):
    writer = local_writer(str(tiny_folder), Settings(cache=tmp_path, offline=True))
    assert writer.lm.name == str(tiny_folder)
    ((_, reply),) = writer.write(requests(Sampling(3))[:1])
    assert isinstance(reply, Reply)
    assert reply.output_tokens <= 3


@pytest.mark.models
def test_the_real_model_ends_its_turn(smollm2):
    request = Request("smollm2", "1", "What is the capital of France? Answer in one word.", Sampling(30))
    (reply,) = written(smollm2, [request]).values()
    assert isinstance(reply, Reply)
    assert reply.finish == "stop"
    assert "Paris" in reply.text
    assert smollm2.ask_tokens("Hello")[-4:] == smollm2.encode(["<|im_start|>assistant\n"])[0]
