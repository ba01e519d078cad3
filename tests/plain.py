"""The plain way, one sequence at a time through the stock model: what every shortcut is held against."""

from collections.abc import Sequence

import torch
from torch import Tensor

from underdog.answering import Question
from underdog.models import LanguageModel


def token_log_probabilities(lm: LanguageModel, before: Sequence[int], after: Sequence[int]) -> Tensor:
    """log p(token | all before it), in nats, of each token of `after`, from the stock model's full logits."""
    tokens = torch.tensor([[*before, *after]], device=lm.device)
    logits = lm.model(input_ids=tokens, use_cache=False).logits[0].float()
    rows = torch.arange(len(before) - 1, len(before) + len(after) - 1)
    return logits.log_softmax(-1)[rows, torch.tensor(after)]


def beginning(lm: LanguageModel, question: Question, prefix: str = "") -> list[int]:
    """Tokens after which the answer starts."""
    return [*lm.start_tokens(), *lm.encode([prefix + question.prompt])[0], *lm.encode([question.cue])[0]]


def choice_log_likelihoods(lm: LanguageModel, question: Question, prefix: str = "") -> list[float]:
    """Summed log-likelihood of each choice, each its own sequence."""
    before = beginning(lm, question, prefix)
    with torch.no_grad():
        return [
            float(token_log_probabilities(lm, before, choice).sum()) for choice in lm.encode([" " + c for c in question.choices])
        ]


def decoding_log_probabilities(lm: LanguageModel, question: Question, prefix: str = "") -> list[float]:
    """Log-probability that decoding, at each token held to what the choices allow, writes each choice and then ends."""
    before = beginning(lm, question, prefix)
    written = [[*choice, lm.end] for choice in lm.encode([" " + choice for choice in question.choices])]
    results = []
    for target in written:
        total = 0.0
        for depth, token in enumerate(target):
            allowed = sorted({other[depth] for other in written if other[:depth] == target[:depth]})
            with torch.no_grad():
                logits = lm.model(input_ids=torch.tensor([[*before, *target[:depth]]])).logits[0, -1]
            total += float(logits[allowed].log_softmax(-1)[allowed.index(token)])
        results.append(total)
    return results
