"""Layouts and label tries as trees of tokens."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from underdog.inference.layout import LabelTrie, Layout

END = 0


def test_an_empty_prompt_is_an_error_that_names_the_question():
    with pytest.raises(ValueError, match="question 'q7' has an empty prompt"):
        Layout.of_prompt("q7", [])


def test_equal_beginnings_are_laid_once():
    layout = Layout.of_prompt("q", [1, 2])
    layout.branch([5, 6, 7], 1)
    layout.branch([5, 6, 8, 9], 1)
    assert layout.tokens == [1, 2, 5, 6, 8]
    assert layout.parents == [-1, 0, 1, 2, 3]
    assert layout.is_chain, "the second goes on from the first, whose last token was never laid"
    layout.branch([5, 4, 3], 1)
    assert layout.tokens == [1, 2, 5, 6, 8, 4]
    assert not layout.is_chain
    assert layout.depths().tolist() == [0, 1, 2, 3, 4, 3]


def test_an_edge_is_predicted_from_the_node_before_it():
    layout = Layout.of_prompt("q", [1, 2])
    assert layout.branch([5, 6, 7], 1) == [(1, 5), (2, 6), (3, 7)]
    assert layout.branch([5, 6, 8], 1) == [(1, 5), (2, 6), (3, 8)]


def test_text_weights_are_a_mean():
    layout = Layout.of_prompt("q", [1])
    layout.learn_text(layout.branch([2, 3, 4, 5], 0), weight=2.0)
    assert layout.text_weights == [0.5] * 4


@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=5), min_size=1, max_size=6))
def test_a_node_sees_its_own_way_and_nothing_else(branches):
    layout = Layout.of_prompt("q", [9, 9, 9])
    for branch in branches:
        layout.branch(branch, 2)
    for node, row in enumerate(layout.visible()):
        way, at = set(), node
        while at >= 0:
            way.add(at)
            at = layout.parents[at]
        assert set(row.nonzero()[0].tolist()) == way
        assert layout.depths()[node] == len(way) - 1


labels = st.lists(st.lists(st.integers(1, 3), max_size=4).map(tuple), min_size=1, max_size=8, unique=True)


@given(labels, st.data())
def test_label_probabilities_sum_to_one_whatever_the_forks_say(labels, data):
    trie = LabelTrie.of(labels, END)
    forks = []
    for _, tokens in trie.forks:
        raw = data.draw(st.lists(st.floats(0.05, 1), min_size=len(tokens), max_size=len(tokens)))
        forks.append([math.log(value / sum(raw)) for value in raw])
    assert sum(map(math.exp, trie.label_log_probabilities(forks))) == pytest.approx(1)


def test_only_forks_are_computed():
    trie = LabelTrie.of([(1, 2, 3), (1, 2, 4), (1, 2)], END)
    assert trie.forks == (((1, 2), (3, 4, END)),)
    layout = Layout.of_prompt("q", [9])
    trie.lay(layout, 0)
    assert layout.tokens == [9, 1, 2]
    assert layout.choice_edges == [(2, 3), (2, 4), (2, END)]


def test_learning_a_label_takes_only_the_forks_on_its_way():
    trie = LabelTrie.of([(1, 2), (1, 3), (4, 5), (4, 6)], END)
    layout = Layout.of_prompt("q", [9])
    trie.lay(layout, 0, gold=3, weight=2.0)
    assert layout.tokens == [9, 4]
    assert [(group.gold, group.weight) for group in layout.groups] == [(1, 2.0), (1, 2.0)]
    assert layout.choice_edges == [(0, 1), (0, 4), (1, 5), (1, 6)]


def test_equal_labels_are_an_error():
    with pytest.raises(ValueError, match="same to the tokenizer"):
        LabelTrie.of([(1, 2), (1, 2)], END)


def test_shared_labels_cost_one_prompt_and_their_forks():
    """77 labels of two words each, of seven first words: eight forks, seven tokens beyond the prompt."""
    labels = [(first, 20 + second) for first in range(1, 8) for second in range(11)]
    layout = Layout.of_prompt("q", [99] * 10)
    LabelTrie.of(labels, END).lay(layout, 9)
    assert len(layout) == 17
    assert len(layout.choice_edges) == 7 + 77
