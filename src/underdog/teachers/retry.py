"""When to try a call again: exponential backoff with full jitter, and not before the server allows."""

from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random


@dataclass(frozen=True, slots=True)
class Backoff:
    """How long to wait between attempts."""

    base_s: float = 0.5
    """Longest wait after the first failure; doubled after every further one."""
    longest_s: float = 30.0
    """No longer than this, whatever the number of failures."""

    def wait_s(self, failures: int, random: Random, asked_s: float | None = None) -> float:
        """Seconds to wait after so many failures (1 or more), on top of what the server asked for.

        Drawn evenly from nothing to the full wait, so that calls that failed together do not come back together.
        """
        wait = random.uniform(0.0, min(self.longest_s, self.base_s * 2 ** min(failures - 1, 32)))
        return wait + (asked_s or 0.0)


def retry_after_s(value: str | None, now: datetime) -> float | None:
    """Read a Retry-After header (RFC 9110, 10.2.3: seconds or an HTTP date) as seconds from `now`, which knows its zone.

    0 for a moment that has passed; None where there is no header, or nothing that can be read.
    """
    if value is None:
        return None
    try:
        return max(0.0, float(int(value.strip())))
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
