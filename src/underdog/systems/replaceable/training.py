"""Teaching a small model beside its LLM, through the one loop."""

from pathlib import Path

from underdog.progress import Progress
from underdog.systems.replaceable.lessons import PairObjective
from underdog.systems.replaceable.pair import Pair
from underdog.training.lessons import Lessons
from underdog.training.loop import Watch, fit
from underdog.training.plan import Plan, Training

LIGHTER = ("a smaller small model", "shorter blocks")


def train(
    pair: Pair,
    lessons: Lessons,
    plan: Plan,
    *,
    checkpoint_folder: Path | None = None,
    progress: Progress | None = None,
    what: str = "training",
    watch: Watch | None = None,
) -> Training:
    """Train the pair's small model, in place; the LLM is only read. Goes on from a checkpoint if there is one.

    `lessons` are `Blocks` (the LLM reads each anew), `RecordedBlocks`, or `Passages`. Raises what `fit` raises.
    """
    learner = Pair(pair.llm, pair.small, seed=pair.seed, precision=plan.precision)
    return fit(
        PairObjective(learner),
        lessons,
        plan,
        device=pair.device,
        checkpoint_folder=checkpoint_folder,
        progress=progress,
        what=what,
        watch=watch,
        lighter=LIGHTER,
    )
