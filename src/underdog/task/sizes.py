"""Parameter counts as people write them: 8M, 1.5B."""

import re

from underdog.errors import TaskError

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMB]?)", re.IGNORECASE)
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


def parse_size(text: str) -> int:
    """Return the number of parameters that `text` names: `"8M"` is 8,000,000. Raises TaskError on anything else."""
    match = _SIZE.fullmatch(text.strip().replace("_", "").replace(",", ""))
    size = round(float(match[1]) * _UNITS[match[2].upper()]) if match else 0
    if size < 1:
        raise TaskError(f"{text!r} is not a size. Write a number of parameters with K, M or B, such as 500K, 8M or 1.5B.")
    return size
