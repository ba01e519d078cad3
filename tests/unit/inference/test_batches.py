"""Batches: every question once, within the budget, with little padding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from underdog.inference.batches import by_budget, collate, epoch_order
from underdog.inference.layout import Layout

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=80)


@given(lengths, st.integers(1, 400))
def test_by_budget_takes_every_index_once_and_keeps_to_the_budget(lengths, budget):
    batches = list(by_budget(lengths, budget))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget
    firsts = [lengths[batch[0]] for batch in batches]
    assert firsts == sorted(firsts, reverse=True), "the longest come first"


def test_by_budget_of_nothing_is_nothing():
    assert list(by_budget([], 100)) == []


@given(lengths, st.integers(1, 9), st.integers(0, 2**32))
def test_an_epoch_takes_every_index_once(lengths, size, seed):
    batches = epoch_order(lengths, size, np.random.default_rng(seed))
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    assert len(batches) == -(-len(lengths) // size), "as many steps as the schedule plans for"
    assert all(len(batch) <= size for batch in batches)


def test_an_epoch_follows_from_its_seed():
    lengths = list(range(1, 200))
    first, again, other = (epoch_order(lengths, 8, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_an_epoch_does_not_go_by_length():
    """Batches hold alike lengths, but short ones do not come first."""
    lengths = list(np.random.default_rng(0).integers(5, 200, 2000))
    means = [np.mean([lengths[index] for index in batch]) for batch in epoch_order(lengths, 32, np.random.default_rng(0))]
    assert abs(np.corrcoef(range(len(means)), means)[0, 1]) < 0.4


@pytest.mark.parametrize(("median", "spread"), [(14, 0.6), (60, 0.8)], ids=["short messages", "questions with reasons"])
def test_little_of_a_batch_is_padding(median, spread):
    """Log-normal lengths, as text has: less than a twentieth of what the model computes is padding."""
    lengths = np.maximum(3, np.random.default_rng(0).lognormal(np.log(median), spread, 5000)).astype(int).tolist()
    computed = 0
    for batch in epoch_order(lengths, 32, np.random.default_rng(0)):
        for part in by_budget([lengths[index] for index in batch], 4096):
            computed += len(part) * max(lengths[batch[index]] for index in part)
    assert 1 - sum(lengths) / computed < 0.06


def _forked() -> Layout:
    layout = Layout.of_prompt("forked", [10, 11, 12])
    layout.learn_text(layout.branch([20, 21], 2), weight=3.0)
    layout.add_group([layout.branch([30, 31], 2), layout.branch([40], 2)], [0.5, 1.0], gold=1, weight=2.0)
    return layout


def test_collate_lays_out_tokens_positions_masks_and_targets():
    chain = Layout.of_prompt("chain", [1, 2, 3, 4, 5, 6])
    chain.learn_text([(4, 6), (5, 7)])
    batch = collate([_forked(), chain], pad=0)
    assert batch.tokens.tolist() == [[10, 11, 12, 20, 30, 0], [1, 2, 3, 4, 5, 6]]
    assert batch.positions[0, :5].tolist() == [0, 1, 2, 3, 3], "branches go on where the prompt ends"
    assert batch.positions[1].tolist() == [0, 1, 2, 3, 4, 5]
    assert batch.visible is not None
    seen = [[column for column, sees in enumerate(row) if sees] for row in batch.visible[0, 0].tolist()]
    assert seen == [[0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 4], [5]], "padding sees itself alone and nobody sees it"
    assert batch.text_sources[batch.text_edges[0]].tolist() == [2, 3, 10, 11]
    assert batch.text_edges[1].tolist() == [20, 21, 6, 7]
    assert batch.text_weights.tolist() == [1.5, 1.5, 0.5, 0.5]
    assert batch.choice_sources[batch.choice_edges[0]].tolist() == [2, 4, 2]
    assert batch.edge_choice.tolist() == [0, 0, 1]
    assert batch.choice_scale.tolist() == [0.5, 1.0]
    assert batch.gold_choice.tolist() == [1]
    assert batch.group_weight.tolist() == [2.0]
    assert (batch.weight, batch.ids, batch.real_tokens) == (2.0, ("forked", "chain"), 11)


def test_collate_behind_a_cache_goes_on_after_it_and_sees_all_of_it():
    batch = collate([_forked(), Layout.of_prompt("short", [1])], past=2)
    assert batch.positions[0].tolist() == [2, 3, 4, 5, 5]
    assert batch.visible is not None
    assert batch.visible.shape == (2, 1, 5, 7)
    assert batch.visible[0, 0, :, :2].all()
    assert batch.visible[0, 0, 4].tolist() == [True, True, True, True, True, False, True]
    assert batch.visible[1, 0, 3].tolist() == [True, True, False, False, False, True, False]


def test_a_group_without_gold_leaves_no_gold_at_all():
    unknown = Layout.of_prompt("unknown", [1])
    unknown.add_group([[(0, 2)], [(0, 3)]])
    batch = collate([_forked(), unknown])
    assert len(batch.gold_choice) == 0, "so that the loss refuses, and does not pair golds with other groups"
    assert len(batch.group_weight) == 2
