"""Tokens set aside for later use take no place in a small student."""

import pytest

from underdog.students.vocabulary import added_tokens


@pytest.mark.parametrize(
    "content", ["<unused0>", "<unused6241>", "[unused12]", "<|reserved_special_token_7|>", "<|reserved_200011|>"]
)
def test_placeholders_go_unless_the_text_uses_them(content: str) -> None:
    description = {"added_tokens": [{"id": 0, "content": "<pad>"}, {"id": 5, "content": content}]}
    assert [token["id"] for token in added_tokens(description, set())] == [0]
    assert [token["id"] for token in added_tokens(description, {5})] == [0, 5]


@pytest.mark.parametrize("content", ["<|im_start|>", "<start_of_turn>", "<s>", "[MASK]", "<repo_name>", "unused1"])
def test_other_added_tokens_stay(content: str) -> None:
    assert added_tokens({"added_tokens": [{"id": 3, "content": content}]}, set())
