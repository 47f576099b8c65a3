"""Loaded models, and what they make of the usual requests."""

from dataclasses import dataclass
from pathlib import Path

from callsheet.runner.pipelines import Warm
from callsheet.runner.rendering import (
    Mode,
    Rendered,
    RenderRequest,
)
from callsheet.runtime.families import Family
from tests.support.rendering import (
    STEPS,
    Controls,
    Sink,
    Slot,
    contents,
    request_of,
    warm,
)


@dataclass(frozen=True)
class Usual:
    """What became of the usual request of a mode, and what was told on the way."""

    rendered: Rendered
    controls: Controls
    slot: Slot
    """With the state behind the second step."""
    sink: Sink
    """With the pictures of every second step."""

    @property
    def contents(self) -> list[bytes]:
        """The bytes of each item."""
        return contents(self.rendered)


class Stage:
    """Loaded models, and what they make of the usual requests: each is rendered once."""

    def __init__(self, cache_dir: Path) -> None:
        self.cache_dir = cache_dir
        self._usual: dict[tuple[Family, Mode], Usual] = {}

    def warm(self, family: Family) -> Warm:
        """Return the built-in model of a family, loaded."""
        return warm(family, cache_dir=self.cache_dir)

    def render(
        self, family: Family, request: RenderRequest, controls: Controls | None = None
    ) -> Rendered:
        """Render a request with the built-in model of a family."""
        return self.warm(family).render(request, controls or Controls())

    def usual(self, family: Family, mode: Mode) -> Usual:
        """Return what became of the usual request."""
        if (found := self._usual.get((family, mode))) is None:
            slot, sink = Slot(due=lambda asked: asked == 2), Sink(every_steps=2)
            controls = Controls(slot, sink=sink)
            rendered = self.render(family, request_of(family, mode), controls)
            found = self._usual[family, mode] = Usual(rendered, controls, slot, sink)
        return found


def walk_of(mode: Mode) -> int:
    """Return how many steps the usual request of a mode takes."""
    share = request_of(Family.SDXL, mode).strength
    return STEPS if share is None else int(STEPS * share)


def state_behind(stage: Stage, family: Family, request: RenderRequest, step: int) -> bytes:
    """Return the state that a rendering leaves behind a step."""
    slot = Slot(due=lambda asked: asked == step)
    stage.render(family, request, Controls(slot))
    assert slot.content is not None
    return slot.content
