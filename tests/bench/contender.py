"""What the side-by-side asks of each contender, so that all are measured the same way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from callsheet.embedded.valkey import AppendFsync
from tests.bench.witnessed import Witnessed


class Caller(Protocol):
    """One client with a kept-alive connection."""

    async def __call__(self, *, timed: bool = False) -> None:
        """Submit a task and return when it was accepted. Raises SystemExit when it was not."""
        ...


class Stack(Protocol):
    """A contender that is up: its server answers, and nobody works yet."""

    async def callers(self, count: int) -> Sequence[Caller]:
        """Return that many clients, connected."""
        ...


@runtime_checkable
class WorkingStack(Stack, Protocol):
    """A contender whose tasks are run by workers."""

    @property
    def witnessed(self) -> Witnessed:
        """What its tasks told."""
        ...

    def worker(self) -> AbstractContextManager[None]:
        """Start one worker process; it is stopped at the end."""
        ...

    async def unfinished(self) -> int:
        """How many accepted tasks were not both run and acknowledged, as its broker has it."""
        ...


@runtime_checkable
class BulkStack(WorkingStack, Protocol):
    """A contender that can be asked for many tasks in one call."""

    async def submit_many(self, count: int) -> None:
        """Submit at most 1,000 tasks in one call."""
        ...


@dataclass(frozen=True)
class Contender:
    """Who is measured, and under which durability of the one Valkey that all use."""

    name: str
    title: str
    #: None where nothing is stored.
    durability: AppendFsync | None
    #: How it is set up: what its documentation advises and did best here.
    configuration: str
    open: Callable[[Path], AbstractAsyncContextManager[Stack]]
    #: Callers with which it does most end to end.
    in_flight: int = 64

    @property
    def key(self) -> str:
        """The name and the durability: celery/always."""
        return f"{self.name}/{self.durability}" if self.durability else self.name
