"""Every error a user can meet. Each says where, what was found, what is allowed, and what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class UnderdogError(Exception):
    """Base of all errors a user can meet: printed without a traceback."""


class TaskError(UnderdogError, ValueError):
    """The task file, or the data it names, is not usable."""


class EqualChoices(TaskError):
    """An item has two equal choices."""


class DataFileMissing(TaskError, FileNotFoundError):
    """A file that the task names does not exist."""


class UnknownName(UnderdogError, LookupError):
    """A name is not one of those known here."""


class ModelUnavailable(UnderdogError, OSError):
    """A model's weights cannot be had: no such model, no network and no cache, or a failed download."""


class WrongHash(ModelUnavailable):
    """A downloaded file is not the one the catalogue expects."""


class MissingKey(UnderdogError, LookupError):
    """The environment variable with a remote teacher's key is not set, or holds no key."""


class TeacherUnavailable(UnderdogError, ConnectionError):
    """A remote teacher's server refuses, or fails again and again: asking on is of no use."""


class SpendingCapReached(UnderdogError, RuntimeError):
    """The next call might cost more than is left below the spending cap."""


class DiskFull(UnderdogError, OSError):
    """There is no room left for a file that was being written."""


class CannotWrite(UnderdogError, OSError):
    """A file or folder cannot be written, for a reason other than a full disk."""


class CannotDecide(UnderdogError, ValueError):
    """Models that work together are asked what nothing they say decides, such as a free answer by likelihood."""


class StoreUnavailable(UnderdogError, OSError):
    """A knowledge store is not there, cannot be reached, or is no store."""


class NoStore(StoreUnavailable):
    """There is no knowledge store at this address yet: it can be made."""


class StoreBusy(UnderdogError, TimeoutError):
    """Another process kept a knowledge store locked for too long."""


class StoreTooNew(UnderdogError, ValueError):
    """A knowledge store was made by a later version of Underdog."""


class StoreDamaged(UnderdogError, ValueError):
    """A knowledge store's file is damaged: what is readable can be exported, but nothing can be added."""


class SignalsDamaged(UnderdogError, ValueError):
    """Recorded next-token distributions are not what was written."""


class TokenizersDiffer(UnderdogError, ValueError):
    """A student cannot learn a teacher's next-token distributions: their tokens are not the same."""


class SignalsRefused(UnderdogError, ValueError):
    """Recorded distributions and the student's text do not fit together, so that learning them would be nonsense."""


class PromptTooLong(UnderdogError, ValueError):
    """A text has more tokens than the model has positions."""


class NothingKnown(UnderdogError, ValueError):
    """A text has no token that the model knows."""


class CorpusUnusable(UnderdogError, ValueError):
    """A folder of texts holds none, too few to split, or one that cannot be read."""


class TextTooShort(UnderdogError, ValueError):
    """A text is shorter than one block of training."""


class TokensDamaged(UnderdogError, ValueError):
    """A file of tokens is not what was written."""


class AdapterRefused(UnderdogError, ValueError):
    """An adapter does not belong to the base that it was to be put on, or is of a kind that is not supported."""


class TrainingDiverged(UnderdogError, ArithmeticError):
    """The loss became NaN or infinite."""


class OutOfMemory(UnderdogError, MemoryError):
    """Even a single example does not fit into memory."""


class Interrupted(UnderdogError, KeyboardInterrupt):
    """The user stopped the run; everything finished is kept."""


class SmallModelRefused(UnderdogError, ValueError):
    """A replaceable small model was made for another LLM, or for another tokenizer."""


class SmallModelDamaged(UnderdogError, ValueError):
    """A saved small model is not what was written."""


class RecordingDamaged(UnderdogError, ValueError):
    """What an LLM predicted is recorded, but not as it was written."""


class HarnessMissing(UnderdogError, ImportError):
    """lm-evaluation-harness is not installed."""


class HarnessRefused(UnderdogError, ValueError):
    """lm-evaluation-harness asks for what a model or system cannot give, or a task of it cannot be run."""


class ServeMissing(UnderdogError, ImportError):
    """What `underdog serve` stands on is not installed."""


class CannotListen(UnderdogError, OSError):
    """The address at which to serve cannot be had."""


class RequestRefused(UnderdogError, ValueError):
    """A request to the server that cannot be met as it is."""

    def __init__(self, message: str, *, status: int = 400, code: str | None = None, param: str | None = None) -> None:
        """HTTP `status`; `code` and `param` (the field that is wrong) as OpenAI's errors have them."""
        super().__init__(message)
        self.status, self.code, self.param = status, code, param


class SealedTestSet(UnderdogError, PermissionError):
    """The test split was read before it was opened."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Return `" Did you mean 'x'?"` for the nearest known name, or an empty string when none is near."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown(kind: str, name: str, known: Iterable[str]) -> UnknownName:
    """Build the error for an unknown name: what was asked for, the nearest known one, and all that are known."""
    names = sorted(known)
    return UnknownName(f"no {kind} is called {name!r}.{nearest(name, names)} Known: {', '.join(names)}.")
