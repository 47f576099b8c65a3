"""The blocks that a model repeats, compiled: for the calls that were learned, and no others."""

import functools
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum, auto
from types import MappingProxyType
from typing import Final, TypeAlias, cast

from callsheet.runner.stop_gate import StopGate
from callsheet.runner.untyped import Untyped

Backend: TypeAlias = str | Callable[..., Untyped]
"""What compiles, as torch takes it: a name, or what makes a function of a graph."""

#: Blocks of the denoisers of which diffusers does not say itself what they repeat.
_REPEATED: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        "SD3Transformer2DModel": ("JointTransformerBlock",),
        "StableAudioDiTModel": ("StableAudioDiTBlock",),
        "UNetMotionModel": ("BasicTransformerBlock",),
        "UNetSpatioTemporalConditionModel": (
            "BasicTransformerBlock",
            "TemporalBasicTransformerBlock",
        ),
    }
)
#: All models of a class share what was compiled: so many variants of one block are kept.
_MOST_VARIANTS: Final = 256


class _Way(Enum):
    """How blocks are computed now."""

    LEARNED = auto()
    """Compiled, where the call was learned."""
    LEARNING = auto()
    EAGER = auto()


def set_up_compiler(torch: Untyped) -> None:
    """Set what holds for all that is compiled in this process."""
    torch._dynamo.config.recompile_limit = _MOST_VARIANTS  # noqa: SLF001 - its documented place
    torch._dynamo.config.accumulated_recompile_limit = _MOST_VARIANTS  # noqa: SLF001 - as above
    # What another process compiles must give the same bits: nothing is chosen by a stopwatch.
    torch._inductor.config.deterministic = True  # noqa: SLF001 - as above


class CompiledBlocks:
    """The repeated blocks of a model's denoisers.

    A block is compiled for the kinds of calls (their shapes, number formats and plain values) that
    it gets while it learns. Any other call is computed as it was before: no task waits for a
    compiler, and which way a request goes does not follow from what was asked for before it.
    """

    def __init__(
        self,
        denoisers: Iterable[Untyped],
        *,
        gate: StopGate,
        torch: Untyped,
        backend: Backend,
    ) -> None:
        """*gate* is in the blocks already; it stays before each, and goes out of what is in it."""
        self._way = _Way.LEARNED
        self._blocks: list[_Block] = []
        for block in _repeated(denoisers):
            # As LoRAs leave them: what is compiled takes note of whether weights learn.
            block.requires_grad_(requires_grad=False)
            gate.take_out_of(each for each in block.modules() if each is not block)
            # Its forward and not the call: what is hooked before a block stays outside.
            found = _Block(block.forward, torch=torch, backend=backend, way=lambda: self._way)
            block.forward = functools.wraps(block.forward)(functools.partial(found))
            self._blocks.append(found)

    @contextmanager
    def learning(self) -> Generator[None]:
        """Compile for every kind of call inside. One that ends in an error teaches nothing."""
        self._way = _Way.LEARNING
        try:
            yield
            for block in self._blocks:
                block.keep()
        finally:
            self._way = _Way.LEARNED
            for block in self._blocks:
                block.forget()

    @contextmanager
    def bypassed(self) -> Generator[None]:
        """Compute as before inside, where the blocks are not the usual ones."""
        self._way = _Way.EAGER
        try:
            yield
        finally:
            self._way = _Way.LEARNED

    def __len__(self) -> int:
        return len(self._blocks)


class _Block:
    """One block, both ways."""

    def __init__(
        self, forward: Untyped, *, torch: Untyped, backend: Backend, way: Callable[[], _Way]
    ) -> None:
        self._forward = forward
        # Each shape by itself: what would do for several is slower, and other bits.
        self._compiled = torch.compile(forward, backend=backend, dynamic=False)
        self._tensor = torch.Tensor
        self._way = way
        self._known: set[Hashable] = set()
        self._heard: set[Hashable] = set()

    def __call__(self, *args: Untyped, **more: Untyped) -> Untyped:
        way = self._way()
        if way is _Way.EAGER:
            return self._forward(*args, **more)
        kind = self._kind(args), self._kind(more)
        if way is _Way.LEARNING:
            self._heard.add(kind)
        elif kind not in self._known:
            return self._forward(*args, **more)
        return self._compiled(*args, **more)

    def keep(self) -> None:
        """Know the calls that were heard."""
        self._known |= self._heard

    def forget(self) -> None:
        """Forget the calls that were heard, and are not known."""
        self._heard.clear()

    def _kind(self, value: Untyped) -> Hashable:
        """Return what a compiler looks at."""
        if isinstance(value, self._tensor):
            return value.shape, value.stride(), value.dtype, value.device
        if value is None or isinstance(value, bool | int | float | str):
            return type(value), value
        if isinstance(value, Mapping):
            items = cast("Mapping[str, Untyped]", value).items()
            return tuple(sorted((name, self._kind(each)) for name, each in items))
        if isinstance(value, list | tuple):
            return tuple(self._kind(each) for each in cast("Iterable[Untyped]", value))
        return type(value).__qualname__


def _repeated(denoisers: Iterable[Untyped]) -> Iterator[Untyped]:
    for denoiser in denoisers:
        names = getattr(denoiser, "_repeated_blocks", None) or _REPEATED.get(
            type(denoiser).__name__, ()
        )
        yield from (each for each in denoiser.modules() if type(each).__name__ in names)
