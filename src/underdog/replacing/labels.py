"""Where a chart's names stand: beside their marks, and on no other name, mark or interval as long as there is room."""

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 600.0, 320.0
"""Of the plot, in pixels; on a wider page names are further apart."""
LETTER, LINE = 7.6, 17.0
"""Of a name's letter and line, in pixels."""
RADIUS = 8.0
"""Of a mark, and of the room around it."""
PLACES = ("middle right", "middle left", "top right", "bottom right", "top left", "bottom left")
"""As plotly calls them, the best first. Right above and below a mark is its own interval."""
SWEEPS = 4
"""After so many rounds no name finds a better place, or two keep changing theirs for each other's."""


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark with its name; places are shares of the axes, from their beginnings."""

    name: str
    x: float
    y: float
    low: float
    """Of its interval, on the y axis."""
    high: float


@dataclass(frozen=True, slots=True)
class _Box:
    """In pixels, from the lower left."""

    left: float
    low: float
    right: float
    high: float

    def shared(self, other: "_Box") -> float:
        """Area that two have in common."""
        across = min(self.right, other.right) - max(self.left, other.left)
        return max(0.0, across) * max(0.0, min(self.high, other.high) - max(self.low, other.low))

    @property
    def outside(self) -> float:
        """Area beyond the plot."""
        inside = self.shared(_Box(0, 0, WIDTH, HEIGHT))
        return (self.right - self.left) * (self.high - self.low) - inside


def places(marks: Sequence[Mark]) -> list[str]:
    """A place for each mark's name: names choose in turn, some times over, where the least is covered."""
    solid = [boxes for mark in marks for boxes in _solid(mark)]
    chosen = [PLACES[0]] * len(marks)
    for _ in range(SWEEPS):
        for index, mark in enumerate(marks):
            others = [_name(other, chosen[at]) for at, other in enumerate(marks) if at != index]
            chosen[index] = min(PLACES, key=lambda place: _covered(_name(mark, place), [*solid, *others]))
    return chosen


def _covered(name: _Box, others: Sequence[_Box]) -> float:
    return name.outside + sum(map(name.shared, others))


def _solid(mark: Mark) -> tuple[_Box, _Box]:
    """The mark itself, and its interval."""
    x, y = mark.x * WIDTH, mark.y * HEIGHT
    return (
        _Box(x - RADIUS, y - RADIUS, x + RADIUS, y + RADIUS),
        _Box(x - RADIUS / 2, mark.low * HEIGHT, x + RADIUS / 2, mark.high * HEIGHT),
    )


def _name(mark: Mark, place: str) -> _Box:
    """Where a name lies at a place."""
    height, side = place.split()
    x, y, width = mark.x * WIDTH, mark.y * HEIGHT, LETTER * len(mark.name)
    left = x + RADIUS if side == "right" else x - RADIUS - width
    low = {"middle": y - LINE / 2, "top": y + RADIUS / 2, "bottom": y - RADIUS / 2 - LINE}[height]
    return _Box(left, low, left + width, low + LINE)
