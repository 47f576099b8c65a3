"""Turns texts into vectors: on a thread of its own, what waits at the same time in one pass."""

import asyncio
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from callsheet.embedded.brain.errors import BrainRefused, Reason

if TYPE_CHECKING:
    from callsheet.embedded.brain.minilm import MiniLM

Vector = list[float]

#: Texts of one forward pass: more would only make the first of them wait.
_PASS: Final = 16
_MOST_WAITING: Final = 512
#: Vectors of recent texts, of 3 KiB each: prompts repeat, and queries are asked again.
_KEPT: Final = 4096


#: How far the thread stands back, from 0 to 19.
_NICENESS: Final = 10


def _give_way() -> None:
    """Let everything else on the machine go first: vectors follow, and nothing waits for them."""
    with suppress(OSError, AttributeError):  # where threads have no niceness of their own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)


class Embedder:
    """Makes vectors; the model is loaded when the first is wanted, or `warm_up` is called."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="embedder", initializer=_give_way)
        self._model: MiniLM | None = None
        self._waiting: OrderedDict[str, asyncio.Future[Vector]] = OrderedDict()
        self._known: OrderedDict[str, Vector] = OrderedDict()
        self._pass: asyncio.Task[None] | None = None

    async def warm_up(self) -> None:
        """Load the model. Raises ModelMissing when it is not installed."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._loaded)

    async def vector(self, text: str) -> Vector:
        """Return the vector of a text. Raises BrainRefused when too many texts wait already."""
        if (known := self._known.get(text)) is not None:
            self._known.move_to_end(text)
            return known
        waiting = self._waiting.get(text)
        if waiting is None:
            if len(self._waiting) >= _MOST_WAITING:
                raise BrainRefused(Reason.BUSY, f"{_MOST_WAITING} texts wait for their vectors")
            waiting = self._waiting[text] = asyncio.get_running_loop().create_future()
        if self._pass is None:
            self._pass = asyncio.create_task(self._make_vectors(), name="embedder")
        # Shielded, for others may wait for the same text.
        return await asyncio.shield(waiting)

    async def close(self) -> None:
        """Give up what waits, and end the thread."""
        if self._pass is not None:
            self._pass.cancel()
            await asyncio.wait({self._pass})
        for waiting in self._waiting.values():
            waiting.cancel()
        await asyncio.to_thread(self._thread.shutdown)

    async def _make_vectors(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while texts := list(self._waiting)[:_PASS]:
                try:
                    vectors = await loop.run_in_executor(self._thread, self._encoded, texts)
                except Exception as error:  # noqa: BLE001  # goes to whoever waits for the vector
                    for text in texts:
                        _fail(self._waiting.pop(text), error)
                    continue
                for text, vector in zip(texts, vectors, strict=True):
                    self._keep(text, vector)
        finally:
            self._pass = None

    def _keep(self, text: str, vector: Vector) -> None:
        waiting = self._waiting.pop(text)
        if not waiting.done():
            waiting.set_result(vector)
        self._known[text] = vector
        if len(self._known) > _KEPT:
            self._known.popitem(last=False)

    def _encoded(self, texts: Sequence[str]) -> list[Vector]:
        return self._loaded().encode(texts).tolist()

    def _loaded(self) -> "MiniLM":
        if self._model is None:
            from callsheet.embedded.brain.minilm import MiniLM  # noqa: PLC0415  # numpy takes a while

            self._model = MiniLM()
        return self._model


def _fail(waiting: "asyncio.Future[Vector]", error: Exception) -> None:
    if not waiting.done():
        waiting.set_exception(error)
        waiting.exception()  # seen, should nobody wait any more
