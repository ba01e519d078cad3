"""Requests as tokens, cut where lm-evaluation-harness's own model for Hugging Face weights cuts them (lm_eval 0.4.13).

The rules: a context's trailing white space belongs to the continuation; context and continuation are tokenised together, and what
exceeds the context's own tokens is the continuation; special tokens are the tokenizer's own unless the text begins with one; what
is too long loses its beginning.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from underdog.errors import HarnessRefused
from underdog.harness.requests import LikelihoodRequest, TextRequest
from underdog.models import LanguageModel


@dataclass(frozen=True, slots=True)
class Continuation:
    """Tokens to be scored after others; at least one on each side."""

    before: tuple[int, ...]
    after: tuple[int, ...]


class Tokens:
    """One model's way of cutting requests."""

    def __init__(
        self,
        lm: LanguageModel,
        *,
        max_length: int | None = None,
        add_bos_token: bool | None = None,
        prefix_token_id: int | None = None,
    ) -> None:
        """`max_length` in place of all positions of the model; `add_bos_token` overrides the tokenizer's own habit;
        `prefix_token_id` stands before what has no context (by default the beginning-of-text token, else the end token)."""
        self._tokenizer = lm.tokenizer
        self.max_length = max_length or lm.max_length
        self._add_special = {} if add_bos_token is None else {"add_special_tokens": add_bos_token}
        bos = lm.tokenizer.bos_token_id
        self.prefix: int = prefix_token_id if prefix_token_id is not None else bos if bos is not None else lm.end
        self._prefix_text: str = lm.tokenizer.decode(self.prefix)
        self._bos_text: str | None = lm.tokenizer.bos_token

    def continuations(self, requests: Sequence[LikelihoodRequest]) -> list[Continuation]:
        """Cut requests into context and continuation. Raises HarnessRefused for one with no or too many tokens."""
        split = [_spaces_moved(request) for request in requests]
        bare = dict.fromkeys(continuation for context, continuation in split if not context)
        full = dict.fromkeys(text for before, after in split if before for text in (before, before + after))
        alone = dict(zip(bare, self._encode(list(bare), add_special_tokens=False), strict=True))
        tokens = dict(zip(full, self._encode_with_special(list(full), self._prefix_text), strict=True))
        cut = []
        for request, (context, continuation) in zip(requests, split, strict=True):
            if context:
                before = tokens[context]
                after = tokens[context + continuation][len(before) :]
            else:
                before, after = [self.prefix], alone[continuation]
                if after[:1] == before:
                    before, after = after[:1], after[1:]
            cut.append(self._fitting(request, before, after))
        return cut

    def windows(self, text: str) -> list[Continuation]:
        """Cut a whole text so that each token is scored once, behind as much as fits; the prefix token is before the first."""
        tokens = self._encode_with_special([text], self._prefix_text)[0]
        length = self.max_length
        cut = [Continuation((self.prefix,), tuple(tokens[:length]))] if tokens else []
        for start in range(length, len(tokens), length):
            end = min(start + length, len(tokens))
            cut.append(Continuation(tuple(tokens[end - length - 1 : start]), tuple(tokens[start:end])))
        return cut

    def prompts(self, requests: Sequence[TextRequest]) -> list[list[int]]:
        """Tokens after which texts are written, with room for these. Raises HarnessRefused where no context would fit."""
        for request in requests:
            if request.max_tokens >= self.max_length:
                raise HarnessRefused(
                    f"{request.where}: {request.max_tokens} tokens are to be written, but the model has only {self.max_length} "
                    "positions for question and answer. Set max_gen_toks lower (in the task's generation_kwargs)."
                )
        encoded = self._encode_with_special([request.context for request in requests], self._bos_text)
        return [
            tokens[-(self.max_length - request.max_tokens) :] or [self.prefix]
            for request, tokens in zip(requests, encoded, strict=True)
        ]

    def _fitting(self, request: LikelihoodRequest, before: Sequence[int], after: Sequence[int]) -> Continuation:
        if not 1 <= len(after) <= self.max_length:
            raise HarnessRefused(
                f"{request.where}: the continuation {request.continuation[:40]!r} has {len(after)} tokens; from 1 to "
                f"{self.max_length}, the model's positions, can be scored. Look at the task's doc_to_choice and doc_to_target."
            )
        return Continuation(tuple(before[-(self.max_length + 1 - len(after)) :]), tuple(after))

    def _encode_with_special(self, texts: Sequence[str], mark: str | None) -> list[list[int]]:
        """Encode with special tokens, but without where a text begins with `mark` already."""
        marked = [mark is not None and text.startswith(mark) for text in texts]
        plain = iter(self._encode([text for text, has in zip(texts, marked, strict=True) if not has], **self._add_special))
        whole = iter(self._encode([text for text, has in zip(texts, marked, strict=True) if has], add_special_tokens=False))
        return [next(whole if has else plain) for has in marked]

    def _encode(self, texts: list[str], **special: bool) -> list[list[int]]:
        return self._tokenizer(texts, **special)["input_ids"] if texts else []


def _spaces_moved(request: LikelihoodRequest) -> tuple[str, str]:
    """Context and continuation, white space at the end of the first moved to the second."""
    context = request.context.rstrip()
    return context, request.context[len(context) :] + request.continuation
