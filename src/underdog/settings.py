"""Where things are on this machine: read from the environment once, on request, and passed on as an argument."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Settings:
    """Folders and habits of this machine."""

    cache: Path
    """Downloaded and converted models."""
    data: Path | None = None
    """Where relative data paths are looked up after the task file's own folder (`UNDERDOG_DATA`)."""
    offline: bool = False
    """Never reach for the network."""
    threads: int | None = None
    """CPU threads for torch; None leaves torch's own choice."""
    environ: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)
    """Where the keys of remote teachers are looked up, by the name that the task file gives. Never shown or kept."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "Settings":
        """Read `UNDERDOG_CACHE`, `UNDERDOG_DATA`, `UNDERDOG_OFFLINE` (or `HF_HUB_OFFLINE`) and `UNDERDOG_THREADS`."""
        home_cache = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        data = environ.get("UNDERDOG_DATA")
        threads = environ.get("UNDERDOG_THREADS")
        return cls(
            cache=Path(environ.get("UNDERDOG_CACHE") or home_cache / "underdog"),
            data=Path(data) if data else None,
            offline=any(
                environ.get(name, "").lower() in {"1", "true", "yes", "on"} for name in ("UNDERDOG_OFFLINE", "HF_HUB_OFFLINE")
            ),
            threads=int(threads) if threads else None,
            environ=environ,
        )
