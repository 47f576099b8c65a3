"""Warm models: loaded once, and kept while there is room for them.

Where a device has memory of its own, a model that must leave it is put aside in the host's memory
as long as that has room, and comes back faster than from the disk.
"""

from collections import OrderedDict
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import RLock
from typing import Protocol, TypeAlias, cast

import structlog

from callsheet.runner.failures import is_out_of_memory
from callsheet.runner.memory_ladder import Economy
from callsheet.runner.rendering import LoadedPipeline, RenderRequest
from callsheet.runtime.models import Model

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Warm(LoadedPipeline, Protocol):
    """A loaded pipeline that knows its size."""

    def size_bytes(self) -> int:
        """Return how much memory its weights take."""
        ...


class Resident(Warm, Protocol):
    """A loaded pipeline that can be moved, and made to need less memory. It comes on the host."""

    @property
    def economies(self) -> frozenset[Economy]:
        """What it can do to need less memory, that it does not always do."""
        ...

    def largest_part_bytes(self) -> int:
        """Return what the weights of its largest part take."""
        ...

    def items_at_once(self, request: RenderRequest) -> int:
        """Return how many items at the most share a forward pass.

        Raises HandlerFailure(INVALID_INPUT) for what the model refuses, as render does.
        """
        ...

    def economise(self, economies: frozenset[Economy]) -> None:
        """Do these in the renderings from now on, and no others."""
        ...

    def prepare(self, *, check: Callable[[], None], is_time: Callable[[], bool]) -> None:
        """Do what its first rendering would wait for, where it is used, as far as there is time.

        Raises what *check* does.
        """
        ...

    def to_device(self) -> None:
        """Bring the weights to where they are used; raises when there is no room for all."""
        ...

    def to_host(self) -> None:
        """Bring the weights to the host's memory."""
        ...


@dataclass(frozen=True, kw_only=True)
class WarmLimits:
    """How much may be kept warm. What is in use is never evicted, even where this is exceeded."""

    models: int
    """How many."""
    most_bytes: int
    """Their weights, where they are used: the memory of the device, or of the host."""
    aside_bytes: int | None = None
    """The weights put aside on the host. None: the host's memory is where they are used."""


@dataclass
class _Kept:
    resident: Resident
    is_aside: bool
    uses: int = 0


_Key: TypeAlias = tuple[str, str, str]


class WarmModels:
    """The loaded models of one device, by name, revision and number format."""

    def __init__(
        self,
        load: Callable[[Model], Resident],
        *,
        limits: WarmLimits,
        release: Callable[[], None],
        weigh: Callable[[Model], int] = lambda _: 0,
    ) -> None:
        """Release gives memory back after models went; *weigh* says what one's weights will take.

        A weight of 0 is unknown.
        """
        self._load = load
        self._weigh = weigh
        self._limits = limits
        self._give_back = release
        #: The least recently used first.
        self._kept: OrderedDict[_Key, _Kept] = OrderedDict()
        # from_pretrained patches classes of the whole process: never two loads or moves at once.
        self._lock = RLock()

    def get(self, model: Model) -> Resident:
        """Return a model, loading it when it is not warm; it may be evicted at any time."""
        with self._lock:
            return self._found(model).resident

    @contextmanager
    def in_use(
        self, model: Model, *, beside: int | None = None, on_host: bool = False
    ) -> Generator[Resident]:
        """Hold a model where it is used; nothing evicts it inside.

        *beside* is how many bytes others that are idle may take meanwhile; None: as many as the
        limits allow. With *on_host* its weights wait on the host, from where it takes them itself.
        """
        with self._lock:
            kept = self._found(model)
            kept.uses += 1
            try:
                self._place(kept, beside=beside, on_host=on_host)
            except BaseException:
                kept.uses -= 1
                raise
        try:
            yield kept.resident
        finally:
            with self._lock:
                kept.uses -= 1

    def has_idle_beside(self, model: Model) -> bool:
        """Tell whether others take room that they do not use."""
        return any(not kept.is_aside for key, kept in self._idle() if key != _key(model))

    def clear(self) -> None:
        """Drop every model that is not in use, and those put aside."""
        with self._lock:
            for key, _ in self._idle():
                del self._kept[key]
            self._give_back()

    def here_bytes(self) -> int:
        """Return what the weights take where they are used, those put aside not counted."""
        return sum(kept.resident.size_bytes() for _, kept in self._here())

    def release(self) -> None:
        """Give memory back that nothing uses any more."""
        with self._lock:
            self._give_back()

    def weigh(self, model: Model) -> int:
        """Return what the weights of a model will take; 0: it is unknown."""
        return self._weigh(model)

    @property
    def most_bytes(self) -> int:
        """What the weights may take where they are used."""
        return self._limits.most_bytes

    def names(self) -> Iterator[str]:
        """Yield the names of the warm models, the least recently used first."""
        return (name for name, _, _ in self._kept)

    def _found(self, model: Model) -> _Kept:
        key = _key(model)
        if (kept := self._kept.get(key)) is None:
            self._make_place_for_one()
            self._make_room(self._weigh(model))
            # It comes on the host, which is aside where a device has its own memory.
            kept = _Kept(self._loaded(model), is_aside=self._has_device)
            self._kept[key] = kept
            if not self._has_device:
                self._shrink_to(self._limits.most_bytes, but=kept)
        self._kept.move_to_end(key)
        return kept

    def _loaded(self, model: Model) -> Resident:
        try:
            return self._load(model)
        except Exception as error:
            if not (self._kept and is_out_of_memory(error)):
                raise
        # Outside the except: its error would keep what was half loaded in memory.
        _log.warning("memory_ran_out", model=model.name, next="idle models are dropped")
        self.clear()
        return self._load(model)

    def _place(self, kept: _Kept, *, beside: int | None, on_host: bool) -> None:
        if self._has_device and on_host:
            if not kept.is_aside:
                kept.resident.to_host()
                kept.is_aside = True
                self._give_back()
            size = 0
        else:
            size = kept.resident.size_bytes()
        rest = max(0, self._limits.most_bytes - size)
        self._shrink_to(size + (rest if beside is None else min(beside, rest)), but=kept, own=size)
        if kept.is_aside and not on_host:
            self._bring(kept)

    def _bring(self, kept: _Kept) -> None:
        try:
            kept.resident.to_device()
        except BaseException:
            kept.resident.to_host()
            self._give_back()
            raise
        kept.is_aside = False

    def _make_place_for_one(self) -> None:
        """Drop the least recently used until one more may come."""
        idle = self._idle()
        while len(self._kept) >= self._limits.models and idle:
            key, _ = idle.pop(0)
            del self._kept[key]
            self._give_back()

    def _make_room(self, need: int) -> None:
        """Make room on the host, where loading needs it."""
        if self._has_device:
            self._drop_aside(need)
        else:
            self._shrink_to(max(0, self._limits.most_bytes - need), but=None)

    def _shrink_to(self, most: int, *, but: _Kept | None, own: int | None = None) -> None:
        """Evict idle models until the weights where they are used are within a bound.

        *own* is what counts for the model *but*, when it is on its way there.
        """
        here = {id(kept): kept.resident.size_bytes() for _, kept in self._here()}
        if but is not None and own is not None:
            here[id(but)] = own
        candidates = [
            (key, kept) for key, kept in self._idle() if kept is not but and not kept.is_aside
        ]
        sizes = [here[id(kept)] for _, kept in candidates]
        chosen = [candidates[index] for index in smallest_to_free(sizes, sum(here.values()) - most)]
        for key, kept in chosen:
            self._evict(key, kept)
        if chosen:
            self._give_back()

    def _evict(self, key: _Key, kept: _Kept) -> None:
        size = kept.resident.size_bytes()
        if self._limits.aside_bytes is None or size > self._limits.aside_bytes:
            del self._kept[key]
            return
        self._drop_aside(size)
        try:
            kept.resident.to_host()
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            del self._kept[key]
            return
        kept.is_aside = True

    def _drop_aside(self, need: int) -> None:
        """Drop of what is put aside the least recently used, until there is room on the host."""
        aside = [(key, kept) for key, kept in self._idle() if kept.is_aside]
        held = sum(kept.resident.size_bytes() for _, kept in aside)
        for index in smallest_to_free(
            [kept.resident.size_bytes() for _, kept in aside],
            held + need - (self._limits.aside_bytes or 0),
        ):
            del self._kept[aside[index][0]]

    @property
    def _has_device(self) -> bool:
        return self._limits.aside_bytes is not None

    def _here(self) -> Iterator[tuple[_Key, _Kept]]:
        return ((key, kept) for key, kept in self._kept.items() if not kept.is_aside)

    def _idle(self) -> list[tuple[_Key, _Kept]]:
        return [(key, kept) for key, kept in self._kept.items() if not kept.uses]


def smallest_to_free(sizes: list[int], missing: int) -> list[int]:
    """Return which of these to evict, so that so many bytes get free; all when they do not suffice.

    *sizes* are in order, the least recently used first. Of the sets of which none could stay, it is
    the one whose members were used least recently.
    """
    chosen: list[int] = []
    freed = 0
    for index, size in enumerate(sizes):
        if freed >= missing:
            break
        chosen.append(index)
        freed += size
    for index in reversed(chosen.copy()):
        if freed - sizes[index] >= missing:
            chosen.remove(index)
            freed -= sizes[index]
    return chosen


def _key(model: Model) -> _Key:
    return model.name, model.revision, model.dtype
