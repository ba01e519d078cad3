"""Key-value caches: one that a batch shares, and one with room to write in."""

from functools import partial
from typing import Any, cast

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import Cache, DynamicLayer


def new_cache() -> Any:
    """An empty key-value cache."""
    return DynamicCache()


def repeated(cache: Any, count: int) -> Any:
    """A key-value cache of batch 1 repeated for a batch of `count`; appending to it leaves `cache` alone."""
    copy = DynamicCache()
    for index, layer in enumerate(cache.layers):
        shape = (count, *layer.keys.shape[1:])
        copy.update(layer.keys.expand(shape), layer.values.expand(shape), index)
    return copy


class _RoomyLayer(DynamicLayer):
    """One layer's keys and values with room for all tokens to come: a new token is written, and none before it copied."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room
        self._buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        del args, kwargs
        used, new = self.get_seq_length(), key_states.shape[-2]
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            # Under autocast, rotation leaves keys in float32; attention would make them what values are, anew for every token.
            shapes = [(*state.shape[:2], self._room, state.shape[-1]) for state in (key_states, value_states)]
            self._buffers = [value_states.new_empty(shape) for shape in shapes]
        for buffer, state in zip(self._buffers, (key_states, value_states), strict=True):
            buffer[:, :, used : used + new] = state
        self._show(used + new)
        return self.keys, self.values  # type: ignore[return-value]

    def keep(self, rows: Tensor, first: int) -> None:
        """Drop all rows but these, and the places before `first`."""
        used = self.get_seq_length()
        self._buffers = [buffer[:, :, first:][rows] for buffer in self._buffers]
        self._show(used - first)

    def _show(self, used: int) -> None:
        self.keys, self.values = (buffer[:, :, :used] for buffer in self._buffers)


class RoomyCache(Cache):
    """A key-value cache for writing: it has room for so many tokens from the start, and lets go of rows that have ended."""

    def __init__(self, room: int) -> None:
        super().__init__(layer_class_to_replicate=cast(Any, partial(_RoomyLayer, room)))

    @classmethod
    def after(cls, cache: Any, rows: Tensor, room: int) -> "RoomyCache":
        """One that begins with these rows of another cache; appending to it leaves that one alone."""
        started = cls(room)
        for index, layer in enumerate(cache.layers):
            started.update(layer.keys[rows], layer.values[rows], index)
        return started

    def keep(self, rows: Tensor, first: int) -> None:
        """Drop all rows but these, and the places before `first`."""
        for layer in self.layers:
            cast(_RoomyLayer, layer).keep(rows, first)
