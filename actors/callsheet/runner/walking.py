"""Walks over the steps of one request, one call of a pipeline after the other."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, cast

import structlog

from callsheet.runner.adapters import Use
from callsheet.runner.previews import Previewer
from callsheet.runner.render_state import (
    RenderState,
    StateUnreadable,
    WalkState,
    decode_state,
    encode_state,
)
from callsheet.runner.rendering import (
    RenderControls,
    RenderedItem,
    RenderItem,
    RenderRequest,
    Reproducibility,
)
from callsheet.runner.step_controller import Follower, Step, StepController
from callsheet.runner.untyped import Untyped
from callsheet.v1.task_pb2 import PROGRESS_PHASE_STEPS, PROGRESS_PHASE_UNSPECIFIED

_SHADES: Final = 255

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@dataclass(frozen=True)
class Pace:
    """What the walks of a request need, besides the request."""

    pipeline: Untyped
    use: Use
    scheduler: Callable[[int], Untyped]
    """Makes a fresh scheduler for a walk that starts from a seed."""
    torch: Untyped
    digest: str
    """Of everything that the result follows from."""
    previewer: Previewer | None = None


def walks_of(request: RenderRequest, use: Use, *, one_by_one: bool) -> list[tuple[int, ...]]:
    """Return which items each call carries: all that may share one, or one alone."""
    numbers = range(len(request.items))
    if one_by_one or not use.batches or request.reproducibility is Reproducibility.STRICT:
        return [(number,) for number in numbers]
    # With words to avoid and without are two kinds of work.
    avoiding = tuple(number for number in numbers if request.items[number].negative_prompt)
    others = tuple(number for number in numbers if number not in avoiding)
    most = request.most_at_once or len(numbers)
    return [
        walk[start : start + most]
        for walk in (avoiding, others)
        for start in range(0, len(walk), most)
    ]


class Walker:
    """Renders one request; not used twice."""

    def __init__(
        self,
        request: RenderRequest,
        controls: RenderControls,
        pace: Pace,
        *,
        walks: Sequence[tuple[int, ...]],
        kept: RenderState | None = None,
    ) -> None:
        """*walks* says which items each call carries.

        *kept* is how far a rendering was for which memory ran out: if it was of the very same, it
        is gone on from.
        """
        self._request = request
        self._controls = controls
        self._pace = pace
        self._walks = walks
        self._kept = kept
        self._done: list[WalkState] = []
        self._newest: RenderState | None = None

    @property
    def newest(self) -> RenderState | None:
        """The newest state there is: that of the last checkpoint, or behind a walk's last step."""
        return self._newest

    def rendered(self) -> tuple[RenderedItem, ...]:
        """Return what became of the items, in their order."""
        states = self._states()
        if len(states) == len(self._walks) and states[-1].calls == states[-1].of:
            # No step will tell it: none is left.
            self._controls.on_step(*self._of_all(len(states) - 1, states[-1].of, states[-1].of))
        found: dict[int, RenderedItem] = {}
        for index, numbers in enumerate(self._walks):
            items = [self._request.items[number] for number in numbers]
            state = states[index] if index < len(states) else None
            found |= zip(numbers, self._walked(items, index, state), strict=True)
        return tuple(found[number] for number in sorted(found))

    def _states(self) -> Sequence[WalkState]:
        """Return how far the walks were when memory ran out, or when an earlier attempt ended."""
        if self._kept is not None and self._kept.digest == self._pace.digest:
            return self._kept.walks
        slot = self._controls.checkpoints
        content = slot.load() if slot is not None else None
        if slot is None or content is None:
            return ()
        try:
            state = decode_state(content)
        except StateUnreadable as error:
            slot.refuse(f"the checkpoint cannot be read: {error}")
            return ()
        if state.digest != self._pace.digest:
            slot.refuse("the checkpoint is of another model, input, device or library")
            return ()
        slot.resumed(state.step, of=state.walks[0].of * len(self._walks))
        return state.walks

    def _walked(
        self, items: Sequence[RenderItem], index: int, state: WalkState | None
    ) -> Iterator[RenderedItem]:
        pace, controls = self._pace, self._controls
        controls.check()
        pace.pipeline.scheduler = pace.scheduler(items[0].seed)
        generators = [
            # On the CPU whatever the device: the same noise everywhere.
            pace.torch.Generator("cpu").manual_seed(item.seed)
            for item in items
        ]
        controller = StepController(
            pace.pipeline,
            torch=pace.torch,
            generators=generators,
            follower=Follower(
                check=controls.check,
                on_begin=partial(self._begun, index),
                on_step=partial(self._stepped, index),
            ),
            state=state,
        )
        if state is not None and state.calls == state.of:
            self._note(state)
        with controller.following():
            output = pace.pipeline(
                **self._arguments(items),
                generator=generators if len(generators) > 1 else generators[0],
            )
        return _items(output, bucket=len(items))

    def _arguments(self, items: Sequence[RenderItem]) -> dict[str, object]:
        arguments: dict[str, object] = {
            "num_inference_steps": self._request.steps,
            "output_type": "np",
        }
        for take in self._pace.use.takes:
            arguments |= take(self._request, items)
        return arguments

    def _begun(self, index: int, step: int, of: int) -> None:
        self._controls.enter(PROGRESS_PHASE_STEPS)
        self._controls.on_step(*self._of_all(index, step, of))

    def _stepped(self, index: int, step: Step, state_now: Callable[[], WalkState]) -> None:
        controls = self._controls
        is_done = step.call == step.of
        if is_done:
            controls.enter(PROGRESS_PHASE_UNSPECIFIED)
        done, of = self._of_all(index, step.call, step.of)
        self._preview(step, done, of)
        slot = controls.checkpoints
        is_due = slot is not None and slot.is_due()
        if is_done or is_due:
            state = self._note(state_now())
            if slot is not None and is_due:
                slot.save(encode_state(state), step=done, of=of)
        controls.on_step(done, of)

    def _note(self, walk: WalkState) -> RenderState:
        """Return the state that the walks are in now, and keep it as the newest."""
        self._newest = RenderState(self._pace.digest, (*self._done, walk))
        if walk.calls == walk.of:
            # Of the last walk too: its latents are still to be decoded, which takes most memory.
            self._done.append(walk)
        return self._newest

    def _preview(self, step: Step, done: int, of: int) -> None:
        sink, previewer = self._controls.previews, self._pace.previewer
        if sink is None or previewer is None or step.call % sink.every_steps:
            return
        try:
            pictures = previewer.pictures(
                self._request,
                step,
                layout=self._pace.use.layout,
                scheduler=self._pace.pipeline.scheduler,
            )
        except Exception as error:  # noqa: BLE001 - what is shown on the way must not end the work
            _log.warning("preview_not_made", error=repr(error))
            return
        if pictures:
            sink.show(pictures, step=done, of=of)

    def _of_all(self, index: int, step: int, of: int) -> tuple[int, int]:
        """Return a step of one walk as one of all; each has as many."""
        return index * of + step, len(self._walks) * of


def _items(output: Untyped, *, bucket: int) -> Iterator[RenderedItem]:
    """Yield what a pipeline gave for each item, whatever it calls it."""
    import numpy as np

    found = cast("Mapping[str, Untyped]", output)
    if "audios" in found:
        for sound in found["audios"]:
            audio = np.ascontiguousarray(sound, dtype=np.float32)
            yield RenderedItem(audio=audio, bucket=bucket)
        return
    is_video = "frames" in found
    for pictures in found["frames" if is_video else "images"]:
        pixels = (np.asarray(pictures) * _SHADES).round().astype(np.uint8)
        yield RenderedItem(frames=pixels if is_video else pixels[None], bucket=bucket)
