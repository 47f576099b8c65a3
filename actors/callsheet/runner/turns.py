"""How attempts that run together share the one inference thread.

Each attempt has a thread of its own, in which its handler runs. What needs a model is done in the
inference thread, in turns; a rendering waits until the others want theirs, to be done with them.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, Generic, TypeVar, cast

from callsheet.runner.rendering import LoadedPipeline, RenderControls, Rendered, RenderRequest

#: For how long a rendering waits for others. What they do before it is small, or loads the model
#: that this one needs too.
PATIENCE: Final = timedelta(seconds=5)

_LONGEST_WAIT: Final = timedelta(seconds=1)
#: How often a thread that waits asks whether its attempt is to stop.
_ASK_EVERY: Final = timedelta(milliseconds=50)

Made = TypeVar("Made")


class Wish(Generic[Made]):
    """Something that a thread wants of the inference thread, and waits for."""

    def __init__(self) -> None:
        self._settled = threading.Event()
        self._made: Made | None = None
        self._error: BaseException | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it is known what became of it, or nobody waits for it any more."""
        return self._settled.is_set()

    def settle(self, make: Callable[[], Made]) -> None:
        """Do what is wanted, in the thread that calls this, unless nobody waits for it."""
        if self.is_settled:
            return
        try:
            self._made = make()
        except BaseException as error:  # noqa: BLE001 - it is the other thread's
            self._error = error
        self._settled.set()

    def fail(self, error: BaseException) -> None:
        """Let whoever waits fail with an error."""
        self._error = error
        self._settled.set()

    def result(self, check: Callable[[], None]) -> Made:
        """Return what was made, once it is; raises what went wrong.

        *check* is asked meanwhile; with what it raises the wish is taken back.
        """
        while not self._settled.wait(_ASK_EVERY.total_seconds()):
            try:
                check()
            except BaseException as error:
                self.fail(error)
                raise
        if self._error is not None:
            raise self._error
        return cast("Made", self._made)


@dataclass(eq=False)
class RenderWish(Wish[Rendered]):
    """A rendering that an attempt wants."""

    pipeline: LoadedPipeline
    request: RenderRequest
    controls: RenderControls
    since: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        super().__init__()


Passes = Sequence[Sequence[RenderWish]]
"""Renderings, each with those that are done together with it."""


class Turns:
    """The inference thread's work for so many attempts."""

    def __init__(self, attempts: int, *, patience: timedelta = PATIENCE) -> None:
        self._changed = threading.Condition()
        self._present = attempts
        self._patience = patience.total_seconds()
        self._calls: deque[Callable[[], None]] = deque()
        self._renderings: list[RenderWish] = []
        self._passes: deque[Sequence[RenderWish]] = deque()

    def call(self, work: Callable[[], Made], *, check: Callable[[], None]) -> Made:
        """Do the work in the inference thread, and return what it gives, unless *check* raises."""
        wish = Wish[Made]()
        with self._changed:
            self._calls.append(lambda: wish.settle(work))
            self._changed.notify_all()
        return wish.result(check)

    def render(
        self, pipeline: LoadedPipeline, request: RenderRequest, controls: RenderControls
    ) -> Rendered:
        """Render in the inference thread, together with what others want."""
        wish = RenderWish(pipeline, request, controls)
        with self._changed:
            self._renderings.append(wish)
            self._changed.notify_all()
        return wish.result(controls.check)

    def leave(self) -> None:
        """Note that an attempt wants nothing more."""
        with self._changed:
            self._present -= 1
            self._changed.notify_all()

    def serve(
        self,
        *,
        group: Callable[[Sequence[RenderWish]], Passes],
        render: Callable[[Sequence[RenderWish]], Passes],
    ) -> None:
        """Do what is wanted until every attempt has left.

        *group* tells which renderings are done together, and *render* does those of one pass; it
        returns what is to be done again in another way. Calls go first.
        """
        while True:
            with self._changed:
                while not (self._calls or self._passes or self._is_time() or not self._present):
                    self._changed.wait(self._longest_wait())
                if self._is_time():
                    self._passes.extend(group(self._renderings))
                    self._renderings = []
                if not (self._calls or self._passes):
                    return  # nobody is left
                call = self._calls.popleft() if self._calls else None
                together = self._passes.popleft() if call is None else ()
            if call is not None:
                call()
                continue
            again = render(together)
            with self._changed:
                self._passes.extendleft(reversed(again))

    def _is_time(self) -> bool:
        """Tell whether nobody can join the renderings any more, or it took him too long."""
        if not self._renderings:
            return False
        waiting = sum(not wish.is_settled for wish in self._renderings)
        return waiting >= self._present or self._left() <= 0

    def _left(self) -> float:
        return self._renderings[0].since + self._patience - time.monotonic()

    def _longest_wait(self) -> float:
        longest = _LONGEST_WAIT.total_seconds()
        return min(longest, max(0.0, self._left())) if self._renderings else longest
