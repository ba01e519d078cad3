"""Five samples of each question, as a vote of one model's samples needs them: ours against transformers' own `generate`.

Both draw five texts of each ARC question from SmolLM2-135M-Instruct at temperature 0.7, every text to its limit, so that both
write the same number of tokens. Theirs is `generate` with `num_return_sequences`, which reads a prompt once for each of its
samples; arithmetic (bfloat16 weights, or bfloat16 products of float32 weights) and the number of questions in a batch are tried
first, and its fastest is timed. Ours is `LocalWriter` as `samples` and `debate` use it, which reads a prompt once. Before
anything is timed, both must write the same greedily, in float32.
"""

import sys
from collections.abc import Callable, Sequence
from functools import partial
from time import perf_counter

import torch

import common
from underdog import models
from underdog.inference.precision import autocast
from underdog.models import LanguageModel
from underdog.settings import Settings
from underdog.systems.together.speaking import own_prompt
from underdog.teachers.generating import LocalWriter
from underdog.teachers.writing import Reply, Request, Sampling

MODEL = "smollm2-135m-instruct"
SAMPLES, TOKENS, TEMPERATURE = 5, 32, 0.7


def main() -> int:
    given = common.parser(__doc__, rounds=3).parse_args()
    settings = common.settings()
    lm = ready(settings)
    prompts = [own_prompt(one.question) for one in common.arc("test.jsonl.gz", settings)[: 12 if given.quick else 48]]
    check_same(lm, prompts[:4])
    half = common.Endless(lm.name, models.copied(lm).model.to(torch.bfloat16), lm.tokenizer)
    units = len(prompts) * SAMPLES * TOKENS
    tried = {
        f"{name}, {size} questions a batch": partial(theirs_s, model, prompts, size)
        for name, model in (("bfloat16 weights", half), ("autocast", lm))
        for size in ((12,) if given.quick else (4, 12, 48))
    }
    best, rates = common.fastest(tried, units, "tokens")
    contenders: dict[str, Callable[[], float]] = {"ours": partial(ours_s, lm, prompts), "generate": tried[best]}
    speed = common.alternate(contenders, units, 1 if given.quick else given.rounds, "tokens")
    common.table("Tokens written per second", ("contender", "rate (lowest to highest)"), [(n, str(s)) for n, s in speed.items()])
    check = common.Check("tokens per second, ours / generate", speed["ours"].rate / speed["generate"].rate, ">=", 1.5)
    return common.finish(
        "Five samples of each question: tokens written per second", [check], peers=["accelerate"],
        seconds={name: one.seconds for name, one in speed.items()}, settings_tried=rates, timed=best,
        ratio_by_round=common.ratio_by_round(speed["ours"], speed["generate"]),
        model=MODEL, questions=len(prompts), samples=SAMPLES, tokens_per_text=TOKENS, quick=given.quick,
    )  # fmt: skip


def ready(settings: Settings) -> LanguageModel:
    lm = models.load(MODEL, settings)
    lm.model.generation_config.eos_token_id = None
    return common.Endless(lm.name, lm.model, lm.tokenizer)


def ours_s(lm: LanguageModel, prompts: Sequence[str]) -> float:
    samplings = [Sampling(TOKENS, TEMPERATURE, seed=seed) for seed in range(SAMPLES)]
    start = perf_counter()
    written = list(
        LocalWriter(lm, precision="bf16").write([Request(MODEL, "", one, how) for one in prompts for how in samplings])
    )
    seconds = perf_counter() - start
    assert all(isinstance(reply, Reply) and reply.output_tokens == TOKENS for _, reply in written)
    return seconds


def theirs_s(lm: LanguageModel, prompts: Sequence[str], size: int) -> float:
    start = perf_counter()
    with autocast(lm.device, "bf16" if lm.head_weight.dtype == torch.float32 else "float32"):
        for first in range(0, len(prompts), size):
            generated(lm, prompts[first : first + size], do_sample=True, temperature=TEMPERATURE, num_return_sequences=SAMPLES)
    return perf_counter() - start


def generated(lm: LanguageModel, prompts: Sequence[str], **how: object) -> list[list[int]]:
    """What `generate` continues the prompts with."""
    rows = [lm.ask_tokens(prompt) for prompt in prompts]
    longest = max(map(len, rows))
    tokens = torch.tensor([[lm.pad] * (longest - len(row)) + row for row in rows], device=lm.device)
    seen = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows], device=lm.device)
    limits = {"max_new_tokens": TOKENS, "min_new_tokens": TOKENS, "top_k": 0, "top_p": 1.0, "pad_token_id": lm.pad}
    with torch.no_grad():
        written = lm.model.generate(input_ids=tokens, attention_mask=seen, **limits, **how)
    return [row[longest:].tolist() for row in written]


def check_same(lm: LanguageModel, prompts: Sequence[str]) -> None:
    """Stop where ours and theirs do not write the same greedily."""
    asked = [Request(MODEL, "", prompt, Sampling(TOKENS)) for prompt in prompts]
    ours = dict(LocalWriter(lm).write(asked))
    theirs = [lm.tokenizer.decode(row, skip_special_tokens=True).strip() for row in generated(lm, prompts, do_sample=False)]
    for request, text in zip(asked, theirs, strict=True):
        reply = ours[request]
        assert isinstance(reply, Reply)
        if reply.text != text:
            sys.exit(f"ours and generate's greedy texts differ: {reply.text!r} and {text!r}. Nothing is timed.")


if __name__ == "__main__":
    sys.exit(main())
