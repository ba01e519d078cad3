"""The machine's rate is measured as stated, and a model's operations are counted."""

import numpy as np
import pytest
import torch
from torch import nn

from underdog.models import LanguageModel
from underdog.pretraining.speed import flop_per_token, product_rate, speed_of, typical_product
from underdog.training.blocks import Blocks, LanguageObjective

LESSONS = Blocks(np.arange(200, dtype=np.uint16), 16)


def test_operations_are_six_for_each_weight_of_a_product_and_what_attention_adds(tiny_lm: LanguageModel) -> None:
    """Forward two, backward four: all linear layers and the head; tables are looked up for nothing."""
    objective = LanguageObjective(tiny_lm)
    linear = sum(layer.weight.numel() for layer in tiny_lm.backbone.modules() if isinstance(layer, nn.Linear))
    products = 6 * (linear + tiny_lm.head_weight.numel())
    found = flop_per_token(objective, LESSONS)
    attention = 3 * 6 * 2 * 16 * 32
    """Three layers; queries by keys and weights by values, 16 places by 32 channels, forward and backward."""
    assert found == products + attention
    assert all(parameter.grad is None for parameter in tiny_lm.model.parameters())


def test_the_typical_product_is_that_of_the_largest_layer(tiny_lm: LanguageModel) -> None:
    assert typical_product(tiny_lm.backbone, 512) in {(512, 32, 128), (512, 128, 32)}


def test_the_rate_is_two_operations_for_each_multiplication_over_the_median_time() -> None:
    ticks = iter(range(10**6))
    rate = product_rate((8, 4, 2), torch.float32, torch.device("cpu"), least_s=0.5, clock=lambda: float(next(ticks)))
    assert rate == 2 * 8 * 4 * 2 / 1.0, "every run takes one tick of this clock, and one product is long enough"


def test_a_throughput_is_set_against_the_rate_of_its_own_precision(tiny_lm: LanguageModel) -> None:
    found = speed_of(LanguageObjective(tiny_lm), LESSONS, 1000.0, tokens_at_once=64, precision="float32")
    assert found.flop_per_second == 1000 * found.flop_per_token
    assert set(found.product_flop_per_second) == {"bf16", "float32"}
    assert found.share == pytest.approx(found.flop_per_second / found.product_flop_per_second["float32"])
    assert found.product[0] == 64
    assert 0 < found.share < 1
