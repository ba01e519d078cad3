"""Learn a teacher's whole distribution over the next token, from records, at the positions where both cut the text alike.

    L = γ · CE(answer | question) + w · Σ_m a_m · mean over positions of D(teacher_m, student)

with the teachers' shares a_m adding up to 1. A student with a trimmed vocabulary learns from the same records: teachers'
tokens that it lacks count as tail.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from underdog.errors import SignalsRefused, TokenizersDiffer
from underdog.inference.encoding import encode_questions
from underdog.inference.layout import Layout, Signal
from underdog.knowledge.observe import lay_texts
from underdog.knowledge.packing import Distributions
from underdog.knowledge.signals import Observed, Records, Text
from underdog.models import LanguageModel
from underdog.task.examples import Example
from underdog.task.recipes import Logits
from underdog.training.divergences import Divergence


@dataclass(frozen=True, slots=True)
class Fit:
    """How well a teacher's records fit the student's own tokens."""

    teacher: str
    positions: int
    """Of the student's texts."""
    followed: int
    """Of them, those at which the teacher's distribution is learnt."""
    alike: int
    """Of these, those to which the same token leads in both."""
    lacking: float
    """Mean mass of the teacher's on tokens that are kept but that the student lacks."""

    @property
    def note(self) -> str:
        """In words."""
        lacking = f"; {100 * self.lacking:.2g} % of its mass is on tokens that the student lacks" if self.lacking > 0 else ""
        return f"{self.teacher} is followed at {self.followed:,} of {self.positions:,} positions{lacking}"


def how_to_follow(recipe: Logits) -> Divergence:
    """The divergence that a recipe asks for."""
    return Divergence(recipe.loss, recipe.beta, recipe.temperature)


def lay_without_answers(lm: LanguageModel, examples: Sequence[Example]) -> list[Layout]:
    """Lay out every example with its answer and nothing to learn: for recipes that follow the teacher alone."""
    encoded = encode_questions(lm, [example.question for example in examples])
    return [item.layout()[0] for item in encoded]


def shared_tokens(lm: LanguageModel, records: Records) -> NDArray[np.int32]:
    """[teacher's V] the student's id of each of the teacher's tokens, -1 where it has none.

    Raises TokenizersDiffer unless all of the student's tokens are the teacher's.
    """
    vocabulary, teacher = records.vocabulary, records.teacher
    own: dict[str, int] = lm.tokenizer.get_vocab()
    refuse_foreign(lm.name, own, teacher, vocabulary)
    ours = np.full(records.rows, -1, np.int32)
    for token, number in own.items():
        ours[vocabulary[token]] = number
    return ours


def refuse_foreign(student: str, own: Collection[str], teacher: str, vocabulary: Mapping[str, int]) -> None:
    """Raise TokenizersDiffer unless all of the student's own tokens are in the teacher's vocabulary."""
    foreign = sorted(set(own) - vocabulary.keys())
    if foreign:
        raise TokenizersDiffer(
            f"student {student!r} and teacher {teacher!r} do not share a tokenizer: {len(foreign):,} of the student's "
            f"{len(own):,} tokens, such as {foreign[0]!r}, are none of the teacher's {len(vocabulary):,}. What one expects next "
            "says nothing about the other's tokens. Name a teacher of the student's own family, or let this one teach by text: "
            "recipe 'rationales' with its reasons, or 'labels' with answers_from."
        )


def add_signals(
    layouts: Sequence[Layout],
    lm: LanguageModel,
    examples: Sequence[Example],
    teachers: Sequence[tuple[Records, float]],
    recipe: Logits,
) -> list[Fit]:
    """Let each example's layout follow the teachers too, each by its weight; return how well their records fit.

    Raises TokenizersDiffer, and SignalsRefused where the records are of other texts than the examples'.
    """
    total = sum(weight for _, weight in teachers)
    texts = {text.id: text for text in lay_texts(lm, examples)}
    by_id = {layout.id: layout for layout in layouts}
    fits = []
    for records, weight in teachers:
        ours = shared_tokens(lm, records)
        counts = np.zeros(4)
        for observed in records:
            if observed.text.id in by_id:
                text = texts[observed.text.id]
                counts += _follow(by_id[text.id], text, observed, ours, recipe.over, recipe.weight * weight / total)
        positions, followed, alike = map(int, counts[:3])
        fit = Fit(records.teacher, positions, followed, alike, float(counts[3]) / max(followed, 1))
        _check(fit, records)
        fits.append(fit)
    return fits


def _check(fit: Fit, records: Records) -> None:
    if 2 * fit.alike < fit.positions or not fit.followed:
        raise SignalsRefused(
            f"{records.folder}: what {fit.teacher} recorded does not fit the student's text: of {fit.positions:,} positions, the "
            f"same token leads to {fit.alike:,} in both (at least half have to be alike). The training data or the prompt has "
            "changed since, or the tokenizers cut text differently. Delete the folder to record again, or choose a teacher "
            "with the student's tokenizer."
        )


def _follow(
    layout: Layout, text: Text, observed: Observed, ours: NDArray[np.int32], over: Literal["answer", "everything"], weight: float
) -> tuple[int, int, int, float]:
    """Add one teacher's signal to one layout; return positions, those followed, those alike, and the mass lacking."""
    first = text.answer_from if over == "answer" else 0
    own, theirs = _common(text.ends[:-1], observed.text.ends[:-1])
    own, theirs = own[own >= first], theirs[own >= first]
    positions = len(text.tokens) - 1 - first
    if not len(own):
        return positions, 0, 0, 0.0
    alike = int((ours[observed.text.tokens[theirs]] == text.tokens[own]).sum())
    nodes, following = _nodes(layout, text)[own], text.tokens[own + 1]
    signal, lacking = _signal(nodes, following, observed.expected, theirs, ours, weight / len(own))
    layout.signals.append(signal)
    return positions, len(own), alike, lacking


def _common(own: NDArray[np.int32], theirs: NDArray[np.int32]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices of the tokens (of several, the last) that end at the same character in both: [P] and [P]."""
    own_last = {end: index for index, end in enumerate(own.tolist())}
    their_last = {end: index for index, end in enumerate(theirs.tolist())}
    pairs = [(index, their_last[end]) for end, index in own_last.items() if end in their_last]
    both = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return both[:, 0], both[:, 1]


def _nodes(layout: Layout, text: Text) -> NDArray[np.int64]:
    """The nodes of all the text's tokens but the last; those that nothing else has laid yet are laid."""
    nodes = list(range(layout.prompt_length))
    for token in text.tokens[layout.prompt_length : -1].tolist():
        nodes.append(layout.extend([token], nodes[-1]))
    return np.array(nodes, np.int64)


def _signal(
    nodes: NDArray[np.int64],
    following: NDArray[np.int32],
    expected: Distributions,
    where: NDArray[np.int64],
    ours: NDArray[np.int32],
    weight: float,
) -> tuple[Signal, float]:
    """What is expected at the teacher's positions `where` in the student's tokens, and the mass on tokens it lacks."""
    index = np.full(len(expected.tail), -1, np.int32)
    index[where] = np.arange(len(where), dtype=np.int32)

    def entries(
        counts: NDArray[np.uint8], tokens: NDArray[np.int32], values: NDArray[np.float32]
    ) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]:
        place = np.repeat(index, counts)
        here = place >= 0
        return place[here], ours[tokens[here]], values[here]

    kept = entries(expected.kept, expected.tokens, expected.log_probabilities)
    drawn = entries(expected.drawn, expected.drawn_tokens, expected.drawn_log_probabilities)
    has, has_drawn = kept[1] >= 0, drawn[1] >= 0
    lacking = np.bincount(kept[0][~has], np.exp(kept[2][~has]), len(where))
    each = (expected.tail / np.maximum(expected.drawn, 1))[where]
    signal = Signal(
        nodes=nodes,
        following=following,
        weights=np.full(len(where), weight, np.float32),
        tail=np.minimum(expected.tail[where] + lacking, 1.0).astype(np.float32),
        kept=(kept[0][has], kept[1][has], kept[2][has]),
        drawn=(drawn[0][has_drawn], drawn[1][has_drawn], drawn[2][has_drawn]),
        drawn_mass=each[drawn[0][has_drawn]].astype(np.float32),
    )
    return signal, float(lacking.sum())
