"""A teacher's written reason for one training item: one that has not seen the answer, or one that has.

They are two types, because the second would carry the answer into whatever model reads it. Only a `FreeRationale` can
be put into an input; both are targets to learn.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FreeRationale:
    """Written without the gold answer in view; the teacher's own answer came with it, and may be wrong."""

    example_id: str
    teacher: str
    text: str
    answer: str | None = None
    """What the teacher itself answered, for choice tasks the choice's text; None where it gave no answer that fits."""

    def as_input(self) -> str:
        """The text, for a model's input."""
        return self.text


@dataclass(frozen=True, slots=True)
class ForcedRationale:
    """Written towards the gold answer (teacher forcing): a target to learn, and nothing else."""

    example_id: str
    teacher: str
    text: str

    def as_input(self) -> str:
        """Raises TypeError: the text may tell the answer."""
        raise TypeError(
            f"the rationale of {self.teacher} for item {self.example_id!r} was written with the answer in view. "
            "It can be learnt, but never be part of a model's input."
        )


Rationale = FreeRationale | ForcedRationale
