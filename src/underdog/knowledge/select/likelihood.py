"""How likely a model finds a text as the reason for an item, without having been taught."""

from collections.abc import Sequence

import torch
from torch import Tensor

from underdog.inference.answerer import ANSWERING_TOKENS
from underdog.inference.batches import by_budget, collate
from underdog.inference.encoding import encode_questions
from underdog.inference.head import edge_log_probabilities
from underdog.inference.layout import Layout
from underdog.inference.memory import halving
from underdog.inference.precision import Precision, autocast
from underdog.models import LanguageModel
from underdog.progress import Progress, Silent
from underdog.task.examples import Example


def mean_log_probabilities(
    lm: LanguageModel,
    pairs: Sequence[tuple[Example, str]],
    cue: str,
    *,
    max_tokens: int,
    precision: Precision = "bf16",
    progress: Progress | None = None,
) -> list[float]:
    """Return each text's mean log-probability per token, in nats, after its example's prompt and `cue`.

    At most `max_tokens` of a text count: what would be learnt of it. The end that closes a text in learning does not: it
    would favour short ones. Texts of one example share its prompt. One that does not fit into the model's positions gets
    minus infinity, and so does an empty one.
    """
    layouts, branches = _lay(lm, pairs, cue, max_tokens)
    progress = progress or Silent()
    values = [float("-inf")] * len(pairs)

    def scored(part: list[int]) -> Tensor:
        batch = collate([layouts[index] for index in part], lm.pad).to(lm.device)
        with torch.no_grad(), autocast(lm.device, precision):
            hidden = lm.hidden(batch.tokens, batch.positions, batch.visible).flatten(0, 1)
            return edge_log_probabilities(hidden[batch.text_sources], lm.head_weight, *batch.text_edges).cpu()

    done = 0
    for part, edges in halving(by_budget(list(map(len, layouts)), ANSWERING_TOKENS[lm.device.type]), scored):
        start = 0
        for pair, length in (branch for index in part for branch in branches[index]):
            values[pair] = edges[start : start + length].mean().item()
            start += length
        done += len(part)
        progress.step("weighing reasons", done, len(layouts))
    return values


def _lay(
    lm: LanguageModel, pairs: Sequence[tuple[Example, str]], cue: str, max_tokens: int
) -> tuple[list[Layout], list[list[tuple[int, int]]]]:
    """Lay every example out with its texts; return the layouts, and for each (index of the pair, number of tokens) in order."""
    examples = {example.id: example for example, _ in pairs}
    prompts = encode_questions(lm, [example.question for example in examples.values()])
    layouts = {item.id: Layout.of_prompt(item.id, item.prompt) for item in prompts}
    branches: dict[str, list[tuple[int, int]]] = {id: [] for id in layouts}
    (asked,) = lm.encode([cue])
    for index, ((example, _), tokens) in enumerate(zip(pairs, lm.encode([" " + text for _, text in pairs]), strict=True)):
        layout, target = layouts[example.id], tokens[:max_tokens]
        if layout.prompt_length + len(asked) + len(target) <= lm.max_length and pairs[index][1].strip():
            layout.text_edges += layout.branch(target, layout.extend(asked, layout.prompt_length - 1))
            branches[example.id].append((index, len(target)))
    used = [id for id in layouts if branches[id]]
    return [layouts[id] for id in used], [branches[id] for id in used]
