"""Names in a chart stand beside their own marks and cover nothing, also where marks lie close together."""

from itertools import combinations

import pytest

from underdog.replacing.labels import HEIGHT, PLACES, WIDTH, Mark, _name, _solid, places


def _mark(name: str, x: float, y: float, half: float = 0.02) -> Mark:
    return Mark(name, x, y, y - half, y + half)


CROWD = [
    _mark("alone", 0.26, 0.34), _mark("follower", 0.26, 0.94), _mark("informed", 0.31, 0.36), _mark("residual", 0.31, 0.2),
    _mark("residual-shared", 0.318, 0.21), _mark("residual-tokens", 0.26, 0.21), _mark("lora", 0.315, 0.14),
    _mark("full", 0.74, 0.08),
]  # fmt: skip


def test_a_name_stands_right_of_its_mark_where_there_is_room():
    assert places([_mark("one", 0.2, 0.2), _mark("two", 0.8, 0.8)]) == [PLACES[0]] * 2


def test_a_name_at_the_edge_turns_inwards():
    assert places([_mark("a long name", 0.97, 0.5)]) == ["middle left"]
    assert places([_mark("a", 0.5, 0.99)]) == ["bottom right"]


def test_names_in_a_crowd_cover_neither_each_other_nor_other_marks():
    names = [_name(mark, place) for mark, place in zip(CROWD, places(CROWD), strict=True)]
    assert all(one.shared(other) == 0 for one, other in combinations(names, 2))
    for index, name in enumerate(names):
        for at, mark in enumerate(CROWD):
            assert at == index or sum(map(name.shared, _solid(mark))) < 60, (CROWD[index].name, mark.name)
        assert name.outside == 0


@pytest.mark.parametrize("place", PLACES)
def test_a_name_keeps_off_its_own_mark(place: str):
    name, (mark, _) = _name(CROWD[0], place), _solid(CROWD[0])
    assert name.shared(mark) == 0
    assert name.left >= 0 and name.right <= WIDTH and name.low >= 0 and name.high <= HEIGHT
