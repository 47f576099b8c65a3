"""Warm models: loaded once, kept within bounds, never evicted while they are in use."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from callsheet.runner.memory_ladder import Economy
from callsheet.runner.rendering import Mode, RenderControls, Rendered, RenderRequest
from callsheet.runner.warm_models import WarmLimits, WarmModels, smallest_to_free
from callsheet.runtime.models import BUILT_IN, Model


class Fake:
    """A model of a given size, which draws nothing, and says where it is."""

    def __init__(self, model: Model, *, size: int, too_large: bool = False) -> None:
        self.model = model
        self.size = size
        self.moves: list[str] = []
        self.too_large = too_large

    @property
    def modes(self) -> frozenset[Mode]:
        """Return what the model can do."""
        return self.model.modes

    @property
    def economies(self) -> frozenset[Economy]:
        """It has none."""
        return frozenset()

    def size_bytes(self) -> int:
        """Return the size given."""
        return self.size

    def largest_part_bytes(self) -> int:
        """It has one part."""
        return self.size

    def items_at_once(self, request: RenderRequest) -> int:
        """Never called here."""
        raise NotImplementedError

    def prepare(self, *, check: Callable[[], None], is_time: Callable[[], bool]) -> None:
        """Never called here."""

    def economise(self, economies: frozenset[Economy]) -> None:
        """Never called here."""
        raise NotImplementedError

    def to_device(self) -> None:
        """Remember it."""
        self.moves.append("device")
        if self.too_large:
            raise MemoryError

    def to_host(self) -> None:
        """Remember it."""
        self.moves.append("host")

    def render(self, request: RenderRequest, controls: RenderControls) -> Rendered:
        """Never called here."""
        raise NotImplementedError


class Shelf:
    """Warm fakes: counts loads and releases, and fails to load on demand.

    A model is as large as its name says, and 10 when that is no number.
    """

    def __init__(
        self, *, most: int = 8, most_bytes: int = 1000, aside_bytes: int | None = None
    ) -> None:
        self.loads: list[str] = []
        self.fakes: dict[str, Fake] = {}
        self.releases = 0
        self.errors: list[Exception] = []
        self.too_large: set[str] = set()
        self.warm = WarmModels(
            self._load,
            limits=WarmLimits(models=most, most_bytes=most_bytes, aside_bytes=aside_bytes),
            release=self._release,
            weigh=lambda model: size_of(model.name),
        )

    @property
    def names(self) -> list[str]:
        return list(self.warm.names())

    def get(self, *names: str) -> None:
        for name in names:
            assert self.warm.get(model(name)).model.name == name

    def use(self, *names: str, beside: int | None = None) -> None:
        for name in names:
            with self.warm.in_use(model(name), beside=beside) as resident:
                assert resident is self.fakes[name]

    def _load(self, model: Model) -> Fake:
        self.loads.append(model.name)
        if self.errors:
            raise self.errors.pop()
        fake = Fake(model, size=size_of(model.name), too_large=model.name in self.too_large)
        self.fakes[model.name] = fake
        return fake

    def _release(self) -> None:
        self.releases += 1


def size_of(name: str) -> int:
    return int(name) if name.isdigit() else 10


def model(name: str, **other: str) -> Model:
    return replace(BUILT_IN, name=name, **other)


def test_a_warm_model_is_not_loaded_again() -> None:
    shelf = Shelf()
    shelf.get("a", "b", "a", "b")
    assert shelf.loads == ["a", "b"]
    assert shelf.releases == 0


@pytest.mark.parametrize("other", [{"revision": "2"}, {"dtype": "float16"}], ids=str)
def test_another_revision_or_number_format_is_another_model(other: dict[str, str]) -> None:
    shelf = Shelf()
    assert shelf.warm.get(model("a")) is not shelf.warm.get(model("a", **other))
    assert shelf.names == ["a", "a"]


def test_past_their_number_the_least_recently_used_goes_before_the_next_is_loaded() -> None:
    shelf = Shelf(most=2)
    shelf.get("a", "b", "a", "c")
    assert shelf.names == ["a", "c"]
    assert shelf.releases == 1


def test_past_their_bytes_the_least_recently_used_goes() -> None:
    shelf = Shelf(most_bytes=25)
    shelf.get("a", "b", "c")
    assert shelf.names == ["b", "c"]


def test_room_is_made_before_a_model_is_loaded() -> None:
    shelf = Shelf(most_bytes=25)
    shelf.get("a", "b")
    shelf.errors = [OSError()]
    with pytest.raises(OSError):  # noqa: PT011 - the very error given
        shelf.get("c")
    assert shelf.names == ["b"]


def test_a_model_larger_than_all_bounds_is_still_served() -> None:
    shelf = Shelf(most_bytes=5)
    shelf.use("a", "b")
    assert shelf.names == ["b"]


def test_no_more_goes_than_must() -> None:
    shelf = Shelf(most_bytes=100)
    shelf.get("5", "60", "30", "50")
    assert shelf.names == ["5", "30", "50"]


@pytest.mark.parametrize(
    ("sizes", "missing", "chosen"),
    [
        ([], 1, []),
        ([10, 10], 0, []),
        ([10, 10], -5, []),
        ([10, 20, 30], 10, [0]),
        ([10, 20, 30], 25, [0, 1]),
        ([10, 20, 30], 40, [0, 2]),
        ([1, 20, 30], 20, [1]),
        ([10, 20], 100, [0, 1]),
    ],
)
def test_of_what_was_used_least_recently_as_little_is_chosen_as_suffices(
    sizes: list[int], missing: int, chosen: list[int]
) -> None:
    assert smallest_to_free(sizes, missing) == chosen


def test_what_is_in_use_is_not_evicted_for_anything() -> None:
    shelf = Shelf(most=2, most_bytes=25)
    with shelf.warm.in_use(model("a")) as a, shelf.warm.in_use(model("b")):
        shelf.use("c")
        shelf.warm.clear()
        assert shelf.names == ["a", "b"]
        assert shelf.warm.get(model("a")) is a
    shelf.use("c")
    assert shelf.names == ["a", "c"]


def test_a_model_is_in_use_until_the_last_of_its_users_is_done() -> None:
    shelf = Shelf()
    with shelf.warm.in_use(model("a")):
        shelf.use("a")
        shelf.warm.clear()
        assert shelf.names == ["a"]
    shelf.warm.clear()
    assert shelf.names == []


def test_a_rendering_makes_the_room_beside_it_that_it_needs() -> None:
    shelf = Shelf(most_bytes=100)
    shelf.get("10", "20", "30")
    shelf.use("10", beside=30)
    assert shelf.names == ["30", "10"]
    shelf.use("10", beside=0)
    assert shelf.names == ["10"]


def test_when_memory_runs_out_in_a_load_all_others_make_room_once() -> None:
    shelf = Shelf()
    shelf.get("a", "b")
    shelf.errors = [MemoryError()]
    shelf.get("c")
    assert shelf.loads == ["a", "b", "c", "c"]
    assert shelf.names == ["c"]


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
    assert shelf.names == ["a"]


def test_cleared_models_gave_their_memory_back() -> None:
    shelf = Shelf()
    shelf.get("a")
    shelf.warm.clear()
    assert shelf.names == []
    assert shelf.releases == 1


def test_on_a_device_a_model_is_brought_when_it_is_used() -> None:
    shelf = Shelf(aside_bytes=100)
    shelf.get("a")
    assert (shelf.fakes["a"].moves, shelf.warm.here_bytes()) == ([], 0)
    shelf.use("a", "a")
    assert (shelf.fakes["a"].moves, shelf.warm.here_bytes()) == (["device"], 10)


def test_what_must_leave_a_device_is_put_aside_and_comes_back_without_a_load() -> None:
    shelf = Shelf(most_bytes=15, aside_bytes=100)
    shelf.use("a", "b", "a")
    assert shelf.loads == ["a", "b"]
    assert shelf.fakes["a"].moves == ["device", "host", "device"]
    assert shelf.names == ["b", "a"]
    assert shelf.warm.here_bytes() == 10


def test_what_has_no_room_on_the_host_is_dropped() -> None:
    shelf = Shelf(most_bytes=15, aside_bytes=5)
    shelf.use("a", "b", "a")
    assert shelf.loads == ["a", "b", "a"]
    assert shelf.names == ["a"]


def test_what_is_put_aside_makes_room_for_what_was_used_since() -> None:
    shelf = Shelf(most_bytes=15, aside_bytes=15)
    shelf.use("a", "b", "c")
    assert shelf.names == ["b", "c"]


def test_with_its_weights_on_the_host_a_model_takes_no_room_on_the_device() -> None:
    shelf = Shelf(aside_bytes=100)
    shelf.use("a")
    with shelf.warm.in_use(model("a"), on_host=True):
        assert shelf.warm.here_bytes() == 0
    assert shelf.fakes["a"].moves == ["device", "host"]


def test_a_model_that_does_not_fit_on_the_device_waits_on_the_host_as_before() -> None:
    shelf = Shelf(aside_bytes=100)
    shelf.too_large = {"a"}
    with pytest.raises(MemoryError):
        shelf.use("a")
    assert shelf.fakes["a"].moves == ["device", "host"]
    assert shelf.warm.here_bytes() == 0
    shelf.warm.clear()
    assert shelf.names == []


def test_only_what_takes_room_on_the_device_is_idle_beside_a_model() -> None:
    shelf = Shelf(most_bytes=15, aside_bytes=100)
    shelf.use("a")
    assert not shelf.warm.has_idle_beside(model("a"))
    assert shelf.warm.has_idle_beside(model("b"))
    shelf.use("b")
    assert not shelf.warm.has_idle_beside(model("b"))
