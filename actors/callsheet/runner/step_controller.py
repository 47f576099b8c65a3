"""Follows one walk over the denoising steps, of any pipeline of diffusers, from outside.

Every pipeline calls its scheduler's step and its denoiser, and not every one has callbacks; so
these two are wrapped for the time of one call. To go on from a state, the whole call is made again
with the same arguments, and the steps that are done cost nothing: their denoiser gives zeros.
Behind the last of them, latents, scheduler and generators get their recorded values back. Words,
noise and encoded inputs come from the seed as before. The result is that of one walk without a
pause, to the last bit.
"""

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, cast

from callsheet.runner.render_state import Plain, WalkState
from callsheet.runner.untyped import Untyped

#: What families call the modules that a denoising step calls.
DENOISERS: Final = ("unet", "transformer", "transformer_2")
#: Of a scheduler's attributes: its settings, and what is wrapped here.
_NO_STATE: Final = frozenset({"_internal_dict", "step"})
_PLAIN: Final = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Step:
    """One step, as whoever follows the walk sees it."""

    call: int
    """Counted from 1."""
    of: int
    model_output: Untyped
    """What the denoiser gave, guidance applied."""
    sample: Untyped
    """The latents before the step."""
    result: Untyped
    """What the scheduler answered: the latents after the step, and what more it tells."""


@dataclass(frozen=True)
class Follower:
    """What is called on the way, in the inference thread. What it raises ends the walk."""

    check: Callable[[], None]
    """Before each call of a denoiser."""
    on_begin: Callable[[int, int], None]
    """Once, with the steps that are done and their number, before the first that counts."""
    on_step: Callable[[Step, Callable[[], WalkState]], None]
    """After each step, with what returns the state to go on from."""


class StepController:
    """Follows one call of a pipeline; not used twice."""

    def __init__(
        self,
        pipeline: Untyped,
        *,
        torch: Untyped,
        generators: Sequence[Untyped],
        follower: Follower,
        state: WalkState | None = None,
    ) -> None:
        """*generators* are those that the call is given; *state* is where it goes on, if anywhere.

        The pipeline's scheduler must be fresh.
        """
        self._pipeline = pipeline
        self._torch = torch
        self._generators = generators
        self._follower = follower
        self._state = state
        self._skipped = state.calls if state is not None else 0
        self._calls = 0
        self._has_begun = False
        self._outputs: dict[str, tuple[tuple[int, ...], str]] = (
            dict(state.outputs) if state is not None else {}
        )

    @contextmanager
    def following(self) -> Generator[None]:
        """Follow the one call that is made inside; afterwards the pipeline is as it was."""
        self._pipeline._num_timesteps = None  # noqa: SLF001 - what the last call left there
        wrapped: list[tuple[Untyped, str]] = []
        try:
            self._wrap_step(wrapped)
            for name in DENOISERS:
                module = getattr(self._pipeline, name, None)
                if isinstance(module, self._torch.nn.Module):
                    self._wrap_denoiser(name, module, wrapped)
            controlnet = getattr(self._pipeline, "controlnet", None)
            if controlnet is not None:
                self._wrap_controlnet(controlnet, wrapped)
            yield
        finally:
            for owner, name in wrapped:
                owner.__dict__.pop(name, None)

    def _wrap_step(self, wrapped: list[tuple[Untyped, str]]) -> None:
        scheduler = self._pipeline.scheduler
        original = scheduler.step

        # Pipelines look at the signature to see what a scheduler takes.
        @functools.wraps(original)
        def step(output: Untyped, timestep: Untyped, sample: Untyped, **more: Untyped) -> Untyped:
            result = original(output, timestep, sample, **more)
            self._calls += 1
            if self._calls == self._skipped:
                self._restore(result[0])
            elif self._calls > self._skipped:
                done = Step(self._calls, self._of(), output, sample, result)
                self._follower.on_step(done, functools.partial(self._state_after, result[0]))
            return result

        scheduler.step = step
        wrapped.append((scheduler, "step"))

    def _wrap_denoiser(
        self, name: str, module: Untyped, wrapped: list[tuple[Untyped, str]]
    ) -> None:
        original = module.forward

        @functools.wraps(original)
        def forward(*args: Untyped, **more: Untyped) -> Untyped:
            self._follower.check()
            if self._calls < self._skipped:
                return self._nothing(name, module)
            if not self._has_begun:
                self._has_begun = True
                self._follower.on_begin(self._calls, self._of())
            output = original(*args, **more)
            first = output[0]
            self._outputs[name] = tuple(first.shape), str(first.dtype).removeprefix("torch.")
            return output

        module.forward = forward
        wrapped.append((module, "forward"))

    def _wrap_controlnet(self, module: Untyped, wrapped: list[tuple[Untyped, str]]) -> None:
        original = module.forward

        @functools.wraps(original)
        def forward(*args: Untyped, **more: Untyped) -> Untyped:
            self._follower.check()
            if self._calls < self._skipped:
                return [], None  # for a denoiser that looks at nothing
            return original(*args, **more)

        module.forward = forward
        wrapped.append((module, "forward"))

    def _nothing(self, name: str, module: Untyped) -> Untyped:
        """Return what a denoiser gives, without its work."""
        shape, dtype = self._outputs[name]
        zeros = self._torch.zeros(
            shape,
            dtype=getattr(self._torch, dtype),
            device=next(module.parameters()).device,
        )
        return _Output((zeros,))

    def _of(self) -> int:
        """Return how often the scheduler steps in this walk."""
        number: int | None = getattr(self._pipeline, "_num_timesteps", None)
        return number or len(self._pipeline.scheduler.timesteps)

    def _state_after(self, latents: Untyped) -> WalkState:
        tensors, plain = _scheduler_state(self._pipeline.scheduler, torch=self._torch)
        kept = {"latents": latents.detach().to("cpu", copy=True)}
        kept |= {
            f"scheduler.{name}": tensor.detach().to("cpu", copy=True)
            for name, tensor in tensors.items()
        }
        kept |= {
            f"generator.{index}": generator.get_state()
            for index, generator in enumerate(self._generators)
        }
        return WalkState(self._calls, self._of(), kept, plain, dict(self._outputs))

    def _restore(self, latents: Untyped) -> None:
        """Give everything the values that the state recorded."""
        state = self._state
        if state is None:
            raise AssertionError("steps are skipped only with a state")
        latents.copy_(state.tensors["latents"])  # in place: the pipeline holds this very tensor
        scheduler = self._pipeline.scheduler
        for name, value in state.plain.items():
            setattr(scheduler, name, _copied(value))
        for name, tensor in state.tensors.items():
            part, _, rest = name.partition(".")
            if part == "scheduler":
                _put_back(scheduler, rest, tensor, device=latents.device, torch=self._torch)
        for index, generator in enumerate(self._generators):
            generator.set_state(state.tensors[f"generator.{index}"])


class _Output(tuple[Untyped, ...]):
    """What denoisers give: a tuple, which some pipelines ask by name."""

    __slots__ = ()

    @property
    def sample(self) -> Untyped:
        return self[0]


def _scheduler_state(
    scheduler: Untyped, *, torch: Untyped
) -> tuple[dict[str, Untyped], dict[str, Plain]]:
    """Return the tensors and the plain values that a scheduler remembers, lists of them included.

    An element of a list is named by the list and its index; where it stands, the list has None.
    What is neither (an object that makes noise from a seed) is made again by the steps themselves.
    """
    tensors: dict[str, Untyped] = {}
    plain: dict[str, Plain] = {}
    for name, value in cast("Mapping[str, object]", vars(scheduler)).items():
        if name in _NO_STATE:
            continue
        if isinstance(value, torch.Tensor):
            tensors[name] = value
        elif isinstance(value, _PLAIN):
            plain[name] = value
        elif isinstance(value, list | tuple):
            items = cast("Sequence[object]", value)
            if all(isinstance(item, (*_PLAIN, torch.Tensor)) for item in items):
                plain[name] = [
                    None if isinstance(item, torch.Tensor) else cast("Plain", item)
                    for item in items
                ]
                tensors |= {
                    f"{name}.{index}": item
                    for index, item in enumerate(items)
                    if isinstance(item, torch.Tensor)
                }
    return tensors, plain


def _put_back(
    scheduler: Untyped, name: str, tensor: Untyped, *, device: Untyped, torch: Untyped
) -> None:
    """Set a tensor of the scheduler, on the device where the one before it was."""
    owner, _, index = name.partition(".")
    before: Untyped = getattr(scheduler, owner, None)
    if index:
        before[int(index)] = tensor.to(device)
        return
    kept_on = before.device if isinstance(before, torch.Tensor) else device
    setattr(scheduler, owner, tensor.to(kept_on))


def _copied(value: Plain) -> Plain:
    return list(value) if isinstance(value, list) else value
