"""Renderings without a runner: built-in models, requests for them, and what listens to them."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from callsheet.runner.adapters import ADAPTERS
from callsheet.runner.context import TaskStopped
from callsheet.runner.pipelines import Pipelines, Warm
from callsheet.runner.rendering import (
    Mode,
    Pixels,
    RenderControls,
    Rendered,
    RenderItem,
    RenderRequest,
)
from callsheet.runtime.catalogue_file import load_catalogue
from callsheet.runtime.families import Family
from callsheet.runtime.models import BUILT_INS, Model
from callsheet.v1.task_pb2 import ProgressPhase

STEPS = 4
#: Of videos, as few as a family takes.
_FRAMES = {Family.LTX: 9, Family.WAN: 5, Family.WAN_I2V: 5, Family.ANIMATEDIFF: 4, Family.SVD: 3}
#: What each family is for, first of all.
MODES = {family: next(iter(uses)) for family, uses in ADAPTERS.items()}
_WITH_STRENGTH = frozenset({Mode.IMAGE_TO_IMAGE, Mode.INPAINT, Mode.VIDEO_TO_VIDEO})


class Slot:
    """A CheckpointSlot in memory; a state is due when the test says."""

    def __init__(self, content: bytes | None = None, *, due: Callable[[int], bool] | None = None):
        self.content = content
        self.saved: list[tuple[int, int]] = []
        self.resumed_behind: list[tuple[int, int]] = []
        self.refusals: list[str] = []
        self._due = due
        self._asked = 0

    def load(self) -> bytes | None:
        """Return the last state."""
        return self.content

    def is_due(self) -> bool:
        """Ask the test, with the number of times it was asked."""
        self._asked += 1
        return self._due is not None and self._due(self._asked)

    def save(self, content: bytes, *, step: int, of: int) -> None:
        """Keep the state."""
        self.content = content
        self.saved.append((step, of))

    def resumed(self, step: int, *, of: int) -> None:
        """Remember it."""
        self.resumed_behind.append((step, of))

    def refuse(self, reason: str) -> None:
        """Remember it."""
        self.refusals.append(reason)


class Sink:
    """A PreviewSink that keeps what it is shown."""

    def __init__(self, every_steps: int = 1) -> None:
        self.every_steps = every_steps
        self.shown: list[tuple[int, tuple[Pixels, ...]]] = []

    def show(self, pictures: tuple[Pixels, ...], *, step: int, of: int) -> None:
        """Keep them."""
        self.shown.append((step, pictures))


class Controls:
    """RenderControls that remember what they are told, and stop when they were asked so often."""

    def __init__(
        self,
        slot: Slot | None = None,
        *,
        sink: Sink | None = None,
        stop_at: int | None = None,
        stop_within: tuple[int, int] | None = None,
    ) -> None:
        """*stop_within*: behind that step, when asked so often."""
        self.checkpoints = slot
        self.previews = sink
        self.steps: list[tuple[int, int]] = []
        self.phases: list[str] = []
        self.remarks: list[str] = []
        #: How many checks had been made at each step.
        self.checks_at_step: list[int] = []
        self.checks = 0
        self._stop_at = stop_at
        self._stop_within = stop_within

    def check(self) -> None:
        """Stop when it is time."""
        self.checks += 1
        if self._stop_at is not None and self.checks >= self._stop_at:
            raise TaskStopped
        if self.steps and self._stop_within is not None:
            step, checks = self._stop_within
            if self.steps[-1][0] == step and self.checks - self.checks_at_step[-1] >= checks:
                raise TaskStopped

    def on_step(self, step: int, of: int) -> None:
        """Remember the step."""
        self.steps.append((step, of))
        self.checks_at_step.append(self.checks)

    def remark(self, remark: str) -> None:
        """Remember it."""
        self.remarks.append(remark)

    def enter(self, phase: ProgressPhase.ValueType) -> None:
        """Remember the phase, unless it goes on."""
        name = ProgressPhase.Name(phase).removeprefix("PROGRESS_PHASE_")
        if self.phases[-1:] != [name]:
            self.phases.append(name)


def is_controls(controls: RenderControls) -> RenderControls:
    """Let the type checker see that the test's controls are some."""
    return controls


is_controls(Controls())


@cache
def pipelines_of(cache_dir: Path) -> Pipelines:
    """Return the pipelines of the built-in models, one set for a whole process."""
    return Pipelines(load_catalogue(None), device="cpu", cache_dir=cache_dir, most_host_bytes=2**31)


def built_in(family: Family) -> Model:
    """Return the built-in model of a family."""
    return next(model for model in BUILT_INS.values() if model.family is family)


@cache
def warm(family: Family, *, cache_dir: Path) -> Warm:
    """Return the built-in model of a family, loaded."""
    return pipelines_of(cache_dir).get(built_in(family).name)


def item(mode: Mode, *, number: int = 0, family: Family = Family.SDXL) -> RenderItem:
    """Return something small to make; another number is something else."""
    random = np.random.default_rng(number)
    side = 16 if mode is Mode.UPSCALE else 64

    def noise(*shape: int) -> NDArray[np.uint8]:
        return random.integers(0, 256, (*shape, 3), dtype=np.uint8)

    mask = np.zeros((side, side), np.uint8)
    mask[side // 4 : -side // 4, side // 4 : -side // 4] = 255
    return RenderItem(
        "" if family is Family.SVD else f"a fox and {number} hens",
        seed=7 + number,
        image=noise(side, side),
        mask=mask,
        video=noise(_FRAMES.get(family, 1), side, side),
        control=noise(side, side),
    )


def request_of(family: Family, mode: Mode, *, count: int = 1, **other: object) -> RenderRequest:
    """Return a request that takes a moment, for the built-in model of a family."""
    model = built_in(family)
    asked = RenderRequest(
        mode=mode,
        items=tuple(item(mode, number=number, family=family) for number in range(count)),
        width=model.default_width,
        height=model.default_height,
        steps=STEPS if model.default_steps else 0,
        guidance_scale=model.default_guidance_scale,
        strength=0.75 if mode in _WITH_STRENGTH else None,
        frames=_FRAMES.get(family, 1),
        duration=timedelta(milliseconds=250),
    )
    return replace(asked, **other)


def contents(rendered: Rendered) -> list[bytes]:
    """Return the bytes of each item."""
    return [
        (each.audio if each.frames is None else each.frames).tobytes()  # pyright: ignore[reportOptionalMemberAccess]  # one of them is there
        for each in rendered.items
    ]


def furthest(rendered: Rendered, other: Rendered) -> float:
    """Return the largest difference of one pixel or sample between the first items."""
    one, two = rendered.items[0], other.items[0]
    if one.frames is not None and two.frames is not None:
        return float(np.abs(one.frames.astype(np.int16) - two.frames.astype(np.int16)).max())
    if one.audio is not None and two.audio is not None:
        return float(np.abs(one.audio - two.audio).max())
    raise AssertionError("one is frames and the other is sound")
