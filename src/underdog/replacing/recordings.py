"""Whether small models learn from a recording of what the LLM made of the text, or beside the LLM as it reads."""

import math
import shutil

from underdog.replacing.ready import Bench
from underdog.replacing.subjects import Learner, TextSubject
from underdog.replacing.ways import Replaceable, Way
from underdog.systems.replaceable.kinds import Hidden
from underdog.systems.replaceable.lessons import RecordedBlocks
from underdog.systems.replaceable.pair import Pair
from underdog.systems.replaceable.recording import record
from underdog.training.lessons import Lessons
from underdog.training.plan import StepPlan


def lessons(bench: Bench, way: Way, learner: Learner, plan: StepPlan) -> tuple[Lessons, int]:
    """What the way learns from, and how often the LLM read the text for a recording of it (0: it reads along)."""
    times = passes(bench, way, plan) if isinstance(way, Replaceable) else 0
    if not times:
        return bench.subject.lessons(learner), 0
    assert isinstance(learner, Pair) and isinstance(bench.subject, TextSubject)
    tokens = bench.subject.corpus.train.tokens
    found = record(
        bench.run.folder / "recordings", learner, tokens, bench.context, llm=bench.known.weights, passes=times,
        progress=bench.progress,
    )  # fmt: skip
    return RecordedBlocks(found, tokens), times


def passes(bench: Bench, way: Replaceable, plan: StepPlan) -> int:
    """How often the LLM is to read the text for a recording; 0 where it had better read along.

    On a GPU hidden states are computed faster than they are read from a disk; drawn predictions are recorded anywhere.
    """
    how = bench.spec.recording
    if how.when == "never" or not isinstance(bench.subject, TextSubject):
        return 0
    count = len(bench.subject.corpus.train)
    read = plan.steps * plan.batch_size * bench.context
    if how.when == "always":
        return min(how.passes, max(1, math.ceil(read / count)))
    if isinstance(way, Hidden) and bench.llm.device.type != "cpu":
        return 0
    less = (read - 1) // count  # passes that are less to read than what is learnt from
    return min(how.passes, less, int(how.gigabytes * 1e9) // (count * token_bytes(bench, way)))


def token_bytes(bench: Bench, way: Replaceable) -> int:
    """Room that one token of a recording takes."""
    rows, width = bench.llm.head_weight.shape
    return 2 * width if isinstance(way, Hidden) else 2 if rows <= 2**16 else 4


def forget(bench: Bench) -> None:
    """Remove all recordings: everything is trained."""
    shutil.rmtree(bench.run.folder / "recordings", ignore_errors=True)
