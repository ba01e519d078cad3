"""One model asked many times: the commonest of its answers counts (self-consistency, Wang et al., arXiv 2203.11171)."""

from collections.abc import Sequence
from dataclasses import replace

from underdog.answering import Answer, Footprint, Question
from underdog.evaluation.metrics import normalise
from underdog.systems.together.footprint import together
from underdog.systems.together.speaking import Speaker, as_answer, own_prompt, statement
from underdog.systems.together.votes import Same, majority
from underdog.teachers.writing import Sampling


class Samples:
    """A model that writes `count` reasons and answers to each question; implements `answering.Answerer`."""

    def __init__(
        self,
        name: str,
        speaker: Speaker,
        *,
        count: int,
        sampling: Sampling,
        numeric: bool = False,
        same: Same = normalise,
    ) -> None:
        """Sample number k is drawn with the seed `sampling.seed` + k."""
        self.name, self.members = name, (speaker,)
        self._count, self._sampling, self._numeric, self._same = count, sampling, numeric, same

    def answer(self, questions: Sequence[Question]) -> list[Answer]:
        """Answer every question, in order."""
        answers = [majority(*pair, self._same) for pair in zip(questions, self.samples(questions), strict=True)]
        return [replace(answer, by=None) for answer in answers]

    def samples(self, questions: Sequence[Question]) -> list[list[Answer]]:
        """Return every sample's answer to each question."""
        (speaker,) = self.members
        samplings = [replace(self._sampling, seed=self._sampling.seed + number) for number in range(self._count)]
        prompts = [own_prompt(question) for question in questions for _ in samplings]
        outcomes = iter(speaker.say(prompts, samplings * len(questions)))
        return [
            [as_answer(question, statement(question, said, speaker.name, numeric=self._numeric), said) for said in some]
            for question in questions
            for some in [[next(outcomes) for _ in samplings]]
        ]

    def footprint(self) -> Footprint:
        """All of the model's parameters are used for each sample."""
        return together(self.members, self._count * self.members[0].footprint().parameters_per_answer)
