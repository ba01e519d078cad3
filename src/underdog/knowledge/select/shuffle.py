"""The control: each question gets another question's reason (arXiv 2406.14511)."""

import random
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace

from underdog.errors import TaskError
from underdog.task.rationales import Rationale


def shuffle(rationales: Mapping[str, Mapping[str, Rationale]], seed: int) -> dict[str, dict[str, Rationale]]:
    """Deal each teacher's texts anew, so that no item keeps its own; what else is known of the item stays with it.

    As few items as can be get a text that reads like their own: none, unless more than half of the texts are the same.
    Raises TaskError for a teacher with one text only.
    """
    return {teacher: _deal(by_item, teacher, seed) for teacher, by_item in rationales.items()}


def _deal(by_item: Mapping[str, Rationale], teacher: str, seed: int) -> dict[str, Rationale]:
    """Line the items up in random order, but with equal texts together, and move every text on by the largest such group."""
    if len(by_item) == 1:
        raise TaskError(
            f"teacher {teacher!r} has one text only, so that no question can get another's. "
            "Leave this teacher out of the shuffled recipe, or have it write more."
        )
    chance = random.Random(f"{seed}:{teacher}")
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for id in sorted(by_item):
        groups[by_item[id].text].append(id)
    texts = sorted(groups)
    chance.shuffle(texts)
    order: list[str] = []
    for text in texts:
        chance.shuffle(groups[text])
        order += groups[text]
    step = max(map(len, groups.values()), default=0) % max(1, len(order)) or 1
    sources = {id: order[(at - step) % len(order)] for at, id in enumerate(order)}
    return {id: replace(rationale, text=by_item[sources[id]].text) for id, rationale in by_item.items()}
