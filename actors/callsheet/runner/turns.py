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

Made = TypeVar("Made")


class Wish(Generic[Made]):
    """Something that a thread wants of the inference thread, and waits for."""

    def __init__(self) -> None:
        self._settled = threading.Event()
        self._made: Made | None = None
        self._error: BaseException | None = None

    @property
    def is_settled(self) -> bool:
        """Whether it is known what became of it."""
        return self._settled.is_set()

    def settle(self, make: Callable[[], Made]) -> None:
        """Do what is wanted, in the thread that calls this."""
        try:
            self._made = make()
        except BaseException as error:  # noqa: BLE001 - it is the other thread's
            self._error = error
        self._settled.set()

    def fail(self, error: BaseException) -> None:
        """Let whoever waits fail with an error."""
        self._error = error
        self._settled.set()

    def result(self) -> Made:
        """Return what was made, once it is; raises what went wrong."""
        # Ended by the inference thread in any case: when that ends, the process does.
        while not self._settled.wait(_LONGEST_WAIT.total_seconds()):
            pass
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


class Turns:
    """The inference thread's work for so many attempts."""

    def __init__(self, attempts: int, *, patience: timedelta = PATIENCE) -> None:
        self._changed = threading.Condition()
        self._present = attempts
        self._patience = patience.total_seconds()
        self._calls: deque[Callable[[], None]] = deque()
        self._renderings: list[RenderWish] = []

    def call(self, work: Callable[[], Made]) -> Made:
        """Do the work in the inference thread, and return what it gives."""
        wish = Wish[Made]()
        with self._changed:
            self._calls.append(lambda: wish.settle(work))
            self._changed.notify_all()
        return wish.result()

    def render(
        self, pipeline: LoadedPipeline, request: RenderRequest, controls: RenderControls
    ) -> Rendered:
        """Render in the inference thread, together with what others want."""
        wish = RenderWish(pipeline, request, controls)
        with self._changed:
            self._renderings.append(wish)
            self._changed.notify_all()
        return wish.result()

    def leave(self) -> None:
        """Note that an attempt wants nothing more."""
        with self._changed:
            self._present -= 1
            self._changed.notify_all()

    def serve(self, render: Callable[[Sequence[RenderWish]], None]) -> None:
        """Do what is wanted until every attempt has left; *render* settles renderings."""
        while True:
            with self._changed:
                while not (self._calls or self._is_time() or not self._present):
                    self._changed.wait(self._longest_wait())
                if not self._calls and not self._present:
                    return
                call = self._calls.popleft() if self._calls else None
                wanted: Sequence[RenderWish] = ()
                if call is None:
                    wanted, self._renderings = self._renderings, []
            if call is not None:
                call()
            else:
                render(wanted)

    def _is_time(self) -> bool:
        """Tell whether nobody can join the renderings any more, or it took him too long."""
        if not self._renderings:
            return False
        return len(self._renderings) >= self._present or self._left() <= 0

    def _left(self) -> float:
        return self._renderings[0].since + self._patience - time.monotonic()

    def _longest_wait(self) -> float:
        longest = _LONGEST_WAIT.total_seconds()
        return min(longest, max(0.0, self._left())) if self._renderings else longest
