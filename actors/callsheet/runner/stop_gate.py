"""Where a rendering may stop within a step: at every block of every model it runs through."""

from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from typing import Final
from weakref import WeakKeyDictionary

from callsheet.runner.untyped import Untyped

#: What has fewer parts is no block: asking before every matrix product would be felt.
_LEAST_PARTS: Final = 2


def _open() -> None:
    return


class StopGate:
    """Asks whoever renders now, before each block of the modules it was put into.

    A step of a video takes seconds, and so do large text encoders and decoders: stopping between
    two steps alone would be too late. What the question raises ends the rendering.
    """

    def __init__(self) -> None:
        self._check: Callable[[], None] = _open
        #: What takes the question away again, by block.
        self._known: WeakKeyDictionary[Untyped, Untyped] = WeakKeyDictionary()

    @contextmanager
    def guarding(self, check: Callable[[], None]) -> Generator[None]:
        """Ask *check* before each block that is run inside."""
        self._check = check
        try:
            yield
        finally:
            self._check = _open

    def put_into(self, modules: Iterable[Untyped], *, torch: Untyped) -> None:
        """Put the question before the blocks of modules; those that have it already are left."""
        for module in modules:
            for blocks in module.modules():
                if isinstance(blocks, torch.nn.ModuleList):
                    for block in blocks:
                        self._put_before(block)

    def take_out_of(self, blocks: Iterable[Untyped]) -> None:
        """Take the question away from these blocks, where it is before them."""
        for block in blocks:
            if (hook := self._known.pop(block, None)) is not None:
                hook.remove()

    def _put_before(self, block: Untyped) -> None:
        if block not in self._known and len([*block.children()]) >= _LEAST_PARTS:
            self._known[block] = block.register_forward_pre_hook(self._ask)

    def _ask(self, *_: Untyped) -> None:
        self._check()
