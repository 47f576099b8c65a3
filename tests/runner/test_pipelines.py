"""Warm pipelines: loaded once, and kept within bounds."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from callsheet.runner.context import Rendered
from callsheet.runner.pipelines import PipelineCache
from callsheet.runtime.models import BUILT_IN, Model
from callsheet.tasks.v1.generate_image_pb2 import Scheduler


@dataclass(frozen=True)
class Fake:
    """A pipeline of a given size, which draws nothing."""

    model: Model
    size: int = 10

    def size_bytes(self) -> int:
        """Return the size given."""
        return self.size

    def render(
        self,
        prompt: str,
        *,
        negative_prompt: str,
        width: int,
        height: int,
        steps: int,
        guidance_scale: float,
        seed: int,
        scheduler: Scheduler.ValueType,
        on_step: Callable[[int, int], None],
    ) -> Rendered:
        """Never called here."""
        raise NotImplementedError


class Shelf:
    """A cache of fakes that counts its loads and releases, and fails to load on demand."""

    def __init__(self, *, most: int = 8, most_bytes: int = 1000) -> None:
        self.loads: list[str] = []
        self.releases = 0
        self.errors: list[Exception] = []
        self.cache = PipelineCache(
            self._load, most=most, most_bytes=most_bytes, release=self._release
        )

    def get(self, *names: str) -> None:
        for name in names:
            assert self.cache.get(model(name)).model.name == name

    def _load(self, model: Model) -> Fake:
        self.loads.append(model.name)
        if self.errors:
            raise self.errors.pop()
        return Fake(model)

    def _release(self) -> None:
        self.releases += 1


def model(name: str, *, revision: str = "") -> Model:
    return replace(BUILT_IN, name=name, revision=revision)


def test_a_warm_pipeline_is_not_loaded_again() -> None:
    shelf = Shelf()
    shelf.get("a", "b", "a", "b")
    assert shelf.loads == ["a", "b"]
    assert shelf.releases == 0


def test_another_revision_is_another_pipeline() -> None:
    shelf = Shelf()
    first = shelf.cache.get(model("a", revision="1"))
    second = shelf.cache.get(model("a", revision="2"))
    assert (first.model.revision, second.model.revision) == ("1", "2")


def test_past_their_number_the_least_recently_used_goes_before_the_next_is_loaded() -> None:
    shelf = Shelf(most=2)
    shelf.get("a", "b", "a", "c")
    assert list(shelf.cache.names()) == ["a", "c"]
    assert shelf.releases == 1


def test_past_their_bytes_the_least_recently_used_goes() -> None:
    shelf = Shelf(most_bytes=25)
    shelf.get("a", "b", "c")
    assert list(shelf.cache.names()) == ["b", "c"]


def test_a_pipeline_larger_than_all_bounds_is_still_served() -> None:
    shelf = Shelf(most_bytes=5)
    shelf.get("a", "b")
    assert list(shelf.cache.names()) == ["b"]


def test_when_memory_runs_out_in_a_load_all_others_make_room_once() -> None:
    shelf = Shelf()
    shelf.get("a", "b")
    shelf.errors = [MemoryError()]
    shelf.get("c")
    assert shelf.loads == ["a", "b", "c", "c"]
    assert list(shelf.cache.names()) == ["c"]


def test_when_memory_runs_out_again_the_load_fails() -> None:
    shelf = Shelf()
    shelf.get("a")
    shelf.errors = [MemoryError(), MemoryError()]
    with pytest.raises(MemoryError):
        shelf.get("b")
    assert shelf.loads == ["a", "b", "b"]


def test_when_nothing_can_make_room_the_load_fails_at_once() -> None:
    shelf = Shelf()
    shelf.errors = [MemoryError()]
    with pytest.raises(MemoryError):
        shelf.get("a")
    assert shelf.loads == ["a"]


def test_another_error_in_a_load_drops_nothing() -> None:
    shelf = Shelf()
    shelf.get("a")
    shelf.errors = [OSError()]
    with pytest.raises(OSError):  # noqa: PT011 - the very error given
        shelf.get("b")
    assert list(shelf.cache.names()) == ["a"]


def test_a_cleared_cache_gave_its_memory_back() -> None:
    shelf = Shelf()
    shelf.get("a")
    shelf.cache.clear()
    assert list(shelf.cache.names()) == []
    assert shelf.releases == 1
