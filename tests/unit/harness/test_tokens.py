"""How requests are cut into tokens, and the trees they are laid in."""

from dataclasses import replace

import pytest
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

import tiny
from underdog.errors import HarnessRefused
from underdog.harness.asked_model import text_up_to
from underdog.harness.likelihood import BRANCHES, clustered, laid
from underdog.harness.requests import LikelihoodRequest, TextRequest, common_beginning, cut
from underdog.harness.tokens import Continuation, Tokens
from underdog.models import LanguageModel


def asked(context: str, continuation: str) -> LikelihoodRequest:
    return LikelihoodRequest("cards", 3, context, continuation)


def with_start(lm: LanguageModel) -> LanguageModel:
    """The same model with a tokenizer that puts a token before every text."""
    inner = tiny.tokenizer().backend_tokenizer
    start = inner.token_to_id("<|pad|>")
    inner.post_processor = TemplateProcessing(single="<|pad|> $A", special_tokens=[("<|pad|>", start)])
    marked = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token="<|pad|>",
        eos_token="<|end|>",
        pad_token="<|pad|>",
        clean_up_tokenization_spaces=False,
    )
    return replace(lm, tokenizer=marked)


def texts(lm: LanguageModel, cut_up: Continuation) -> tuple[str, str]:
    return lm.tokenizer.decode(cut_up.before), lm.tokenizer.decode(cut_up.after)


def test_white_space_between_context_and_continuation_belongs_to_the_continuation(tiny_lm):
    tokens = Tokens(tiny_lm)
    for context, continuation in (("My card", " was declined"), ("My card ", "was declined"), ("My card \n", " x")):
        (found,) = tokens.continuations([asked(context, continuation)])
        assert texts(tiny_lm, found) == ("My card", (context + continuation)[len("My card") :])
        assert [*found.before, *found.after] == tiny_lm.encode([context + continuation])[0]


def test_without_a_context_the_end_or_start_token_stands_before(tiny_lm):
    (found,) = Tokens(tiny_lm).continuations([asked("", "My card")])
    assert found == Continuation((tiny_lm.end,), tuple(tiny_lm.encode(["My card"])[0]))
    marked = with_start(tiny_lm)
    (found,) = Tokens(marked).continuations([asked("", "My card")])
    assert found.before == (marked.tokenizer.bos_token_id,)
    (own,) = Tokens(marked).continuations([asked("", "<|pad|>My card")])
    assert own == found
    (chosen,) = Tokens(tiny_lm, prefix_token_id=7).continuations([asked("", "My card")])
    assert chosen.before == (7,)


def test_special_tokens_are_the_tokenizers_own_unless_the_text_has_them_or_it_is_told_otherwise(tiny_lm):
    marked = with_start(tiny_lm)
    start, card = marked.tokenizer.bos_token_id, tuple(tiny_lm.encode(["My card"])[0])
    for context, options, before in (
        ("My card", {}, (start, *card)),
        ("<|pad|>My card", {}, (start, *card)),
        ("My card", {"add_bos_token": False}, card),
    ):
        (found,) = Tokens(marked, **options).continuations([asked(context, " was declined")])
        assert found.before == before
        assert Tokens(marked, **options).prompts([TextRequest("cards", 0, context, max_tokens=9)]) == [list(before)]


def test_what_is_too_long_loses_its_beginning(tiny_lm):
    context, after = tiny_lm.encode(["How do I activate my new card?"])[0], tiny_lm.encode([" transfer"])[0]
    length = len(after) + 3
    (found,) = Tokens(tiny_lm, max_length=length).continuations([asked("How do I activate my new card?", " transfer")])
    assert found == Continuation(tuple(context[-4:]), tuple(after))  # the last token is predicted, and needs no position
    (prompt,) = Tokens(tiny_lm, max_length=10).prompts([TextRequest("cards", 0, "How do I activate my new card?", max_tokens=7)])
    assert prompt == context[-3:]


def test_a_whole_text_is_cut_so_that_each_token_is_scored_once_behind_all_that_fits(tiny_lm):
    tokens = Tokens(tiny_lm, max_length=4)
    all_tokens = tiny_lm.encode(["How do I activate my new card?"])[0]
    windows = tokens.windows("How do I activate my new card?")
    assert [token for window in windows for token in window.after] == all_tokens
    assert windows[0].before == (tiny_lm.end,)
    start = 0
    for window in windows:
        assert len(window.before) + len(window.after) == 5
        assert window.before[-1] == ([tiny_lm.end, *all_tokens])[start]
        start += len(window.after)
    assert tokens.windows("") == []


@pytest.mark.parametrize("continuation, found", [("", "has 0 tokens"), (" How do I activate my new card?", "has 13 tokens")])
def test_a_continuation_that_cannot_be_scored_is_refused(tiny_lm, continuation: str, found: str):
    with pytest.raises(HarnessRefused) as refused:
        Tokens(tiny_lm, max_length=4).continuations([asked("My card", continuation)])
    said = str(refused.value)
    assert "task cards, document 3: the continuation" in said and "from 1 to 4, the model's positions" in said
    assert ("has 0 tokens" in said) == (not continuation)


def test_texts_that_leave_no_room_for_the_question_are_refused(tiny_lm):
    with pytest.raises(HarnessRefused, match=r"256 tokens are to be written, but the model has only 256 positions.*max_gen_toks"):
        Tokens(tiny_lm).prompts([TextRequest("cards", 0, "My card")])


def test_contexts_of_a_document_share_one_tree():
    filled = [Continuation((1, 2, 3, 9), (5, 6)), Continuation((1, 2, 4, 9), (5, 6)), Continuation((7,), (5,))]
    shared, alone = clustered(filled, [0, 1, 2])
    assert (shared.root, shared.members, alone.root, alone.members) == ((1, 2), (0, 1), (7,), (2,))
    ((tree, members),) = laid(shared, filled, skip=1)
    assert members == [0, 1]
    assert tree.tokens == [2, 3, 9, 5, 4, 9, 5]  # the skipped token, and each branch's last, are no nodes
    assert tree.parents == [-1, 0, 1, 2, 0, 4, 5]


def test_a_wide_tree_is_parted():
    many = [Continuation((1, 2), tuple(range(index, index + 300))) for index in range(10, 20)]
    (cluster,) = clustered(many, range(10))
    trees = list(laid(cluster, many, skip=0))
    assert [member for _, members in trees for member in members] == list(range(10))
    assert all(len(tree) <= BRANCHES + 2 for tree, _ in trees)
    assert len(trees) == 4


def test_common_beginnings_and_cuts():
    assert common_beginning(["card one", "card two", "cards"]) == "card"
    assert common_beginning([(1, 2), (1, 2, 3)]) == (1, 2)
    assert common_beginning(["x"]) == "x"
    assert cut("a b\n\nQ: c", ["Q:", "\n\n", ""]) == "a b"
    assert cut("a b", ["Q:"]) == "a b"


def test_a_special_token_that_ends_a_text_ends_it_though_the_text_does_not_show_it(tiny_lm):
    card, more = tiny_lm.encode([" My card", " was declined"])
    tokens = [*card, tiny_lm.pad, *more]
    assert text_up_to(tiny_lm.tokenizer, tokens, ["<|pad|>"]) == " My card"
    assert text_up_to(tiny_lm.tokenizer, tokens, ["declined"]) == " My card was "
