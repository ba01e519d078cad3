"""How fast training is, against how fast this machine multiplies matrices."""

from collections.abc import Callable
from statistics import median
from time import perf_counter

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from underdog.config import Config
from underdog.training.blocks import Blocks, LanguageObjective

PRECISIONS = {"bf16": torch.bfloat16, "float32": torch.float32}
REPEATS = 9


class Speed(Config):
    """Throughput of training, and the machine's own."""

    tokens_per_second: float
    """Tokens learnt from, without the time for held-out losses and samples."""
    flop_per_token: float
    """Operations of forward and backward, counted; a multiplication and an addition are two."""
    flop_per_second: float
    product: tuple[int, int, int]
    """The matrix product measured: [N, K] by [K, M], the model's largest linear layer on the tokens that go through at once."""
    product_flop_per_second: dict[str, float]
    """What the machine reaches on it, by precision."""
    share: float
    """Of that rate, in the precision of the training."""


def speed_of(
    objective: LanguageObjective, lessons: Blocks, tokens_per_second: float, *, tokens_at_once: int, precision: str
) -> Speed:
    """Measure the machine, count the model's operations, and put a throughput beside them."""
    device = objective.device
    product = typical_product(objective.backbone, tokens_at_once)
    rates = {name: product_rate(product, dtype, device) for name, dtype in PRECISIONS.items()}
    per_token = flop_per_token(objective, lessons)
    return Speed(
        tokens_per_second=tokens_per_second,
        flop_per_token=per_token,
        flop_per_second=per_token * tokens_per_second,
        product=product,
        product_flop_per_second=rates,
        share=per_token * tokens_per_second / rates[precision],
    )


def flop_per_token(objective: LanguageObjective, lessons: Blocks) -> float:
    """Count the operations of all matrix products of one block's forward and backward pass, per token."""
    batch = lessons.batch([0]).to(objective.device)
    plain_attention = sdpa_kernel(SDPBackend.MATH)  # the counter does not know every fused kernel
    with plain_attention, FlopCounterMode(display=False) as counter, torch.enable_grad():
        objective(batch).backward()
    objective.zero_grad(set_to_none=True)
    return counter.get_total_flops() / lessons.block


def typical_product(module: nn.Module, tokens: int) -> tuple[int, int, int]:
    """N, K and M of the largest linear layer's product on so many tokens."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
    largest = max(layers, key=lambda layer: layer.weight.numel())
    return tokens, largest.in_features, largest.out_features


def product_rate(
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    device: torch.device,
    *,
    least_s: float = 0.03,
    clock: Callable[[], float] = perf_counter,
) -> float:
    """Operations per second of a matrix product [N, K] by [K, M]: the median of several runs of `least_s` or longer."""
    N, K, M = shape
    left = torch.randn(N, K, device=device, dtype=dtype, generator=torch.Generator(device).manual_seed(0))
    right = torch.randn(K, M, device=device, dtype=dtype, generator=torch.Generator(device).manual_seed(1))
    out = left @ right

    def run(times: int) -> float:
        _wait(device)
        begun = clock()
        for _ in range(times):
            torch.mm(left, right, out=out)
        _wait(device)
        return clock() - begun

    run(2)
    times = 1
    while run(times) < least_s:
        times *= 2
    return 2 * N * K * M * times / median(run(times) for _ in range(REPEATS))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
