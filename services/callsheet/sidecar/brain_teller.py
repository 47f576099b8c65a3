"""Tells facts to the brain, and decides when one that it refuses has had its chances."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final, NamedTuple, cast

import structlog

from callsheet.brain.brain import Brain
from callsheet.brain.errors import (
    AnswerMalformed,
    BrainError,
    BrainRefused,
    BrainUnavailable,
    MessageTooLarge,
)
from callsheet.brain.tools import Tool
from callsheet.ledger.graph_progress import FactKey
from callsheet.sidecar.brain_facts import as_json
from callsheet.sidecar.brain_source import Fact

#: Times that one fact is refused while others are taken, after which it is dead.
PROVEN_REFUSALS: Final = 4
#: The same while nothing at all is taken: then it may be the brain, and not the fact.
UNPROVEN_REFUSALS: Final = 12
#: Facts refused one by one, and none taken, after which the rest is not even tried.
_REFUSES_ALL: Final = 3
#: What one write may take: a batch is more work than a call of other kinds.
_WRITE_LIMIT: Final = timedelta(seconds=30)
#: Results that are put into the brain's cache at a time.
_CACHED_AT_A_TIME: Final = 8
_SHORTEST_TTL: Final = timedelta(seconds=1)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Verdict(NamedTuple):
    """What became of facts: all are told or dead, or some must be told again later."""

    is_done: bool
    dead: list[tuple[FactKey, str]]


@dataclass
class _Round:
    accepted: int = 0
    refused: list[tuple[FactKey, str]] = field(default_factory=list[tuple[FactKey, str]])
    is_stopped: bool = False


class Teller:
    """Tells facts; remembers of the place where it is which of them were refused, and how often."""

    def __init__(self, brain: Brain) -> None:
        self._brain = brain
        self._refusals: dict[FactKey, int] = {}
        self._passed: set[FactKey] = set()

    @property
    def takes_single_facts(self) -> bool:
        """Whether the brain keeps facts apart: each must say then what the task was about."""
        return not self._brain.offers(Tool.STORE_TASK_EVENTS)

    def move_on(self) -> None:
        """Forget who was refused: their place is behind us."""
        self._refusals.clear()
        self._passed.clear()

    async def tell(self, facts: Sequence[Fact]) -> Verdict:
        """Write the facts, those of each task in order; find by halving which ones are refused.

        Raises:
            BrainUnavailable: the brain is away, or has no room now; some may have been written.
        """
        waiting = [fact for fact in facts if fact.key not in self._passed]
        tried = _Round()
        if waiting:
            try:
                await self._write(waiting, tried)
            except BrainUnavailable as error:
                # A fact that ends the brain, or takes it for ever, is poison too. It shows when
                # the batches have shrunk to it alone.
                if not error.was_sent or len(waiting) > 1:
                    raise
                tried.refused.append((waiting[0].key, str(error)))
        return self._judge(tried)

    async def tell_again(self, fact: Fact) -> bool:
        """Write a fact that was dead; return whether it was taken now. Raises as tell does."""
        tried = _Round()
        await self._write([fact], tried)
        return tried.accepted == 1

    async def cache(self, facts: Sequence[Fact]) -> None:
        """Put results that may be used again into the brain's cache, as far as it takes them."""
        wanted = [fact for fact in facts if _is_reusable(fact)]
        if not wanted or not self._brain.offers(Tool.CACHE_TASK_RESULT):
            return
        room = asyncio.Semaphore(_CACHED_AT_A_TIME)

        async def keep(fact: Fact) -> None:
            async with room:
                terms = fact.submitted.reuse
                try:
                    await self._brain.cache_task_result(
                        fact.submitted.project,
                        key=terms.digest.hex(),
                        task_id=fact.write["task_id"],
                        result=as_json(fact.record.task_succeeded.output),
                        ttl=terms.ttl.ToTimedelta(),
                    )
                except BrainError as error:
                    # A cache: who needs the result finds it elsewhere, or makes it again.
                    _log.debug("graph_result_uncached", reason=str(error))

        await asyncio.gather(*map(keep, wanted))

    async def _write(self, facts: Sequence[Fact], tried: _Round) -> None:
        if tried.is_stopped:
            return
        try:
            await self._brain.store_task_events(
                [fact.write for fact in facts], time_limit=_WRITE_LIMIT
            )
        except (BrainRefused, AnswerMalformed, MessageTooLarge) as error:
            if isinstance(error, BrainRefused) and error.is_passing:
                raise BrainUnavailable(str(error)) from error
            if len(facts) == 1:
                tried.refused.append((facts[0].key, str(error)))
                tried.is_stopped = not tried.accepted and len(tried.refused) >= _REFUSES_ALL
                return
            half = len(facts) // 2
            await self._write(facts[:half], tried)
            await self._write(facts[half:], tried)
        else:
            tried.accepted += len(facts)

    def _judge(self, tried: _Round) -> Verdict:
        most = PROVEN_REFUSALS if tried.accepted else UNPROVEN_REFUSALS
        dead: list[tuple[FactKey, str]] = []
        for key, reason in tried.refused:
            count = self._refusals[key] = self._refusals.get(key, 0) + 1
            if count >= most:
                self._passed.add(key)
                dead.append((key, reason))
                _log.error(
                    "graph_fact_dead", task_id=key.task_id, sequence=key.sequence, reason=reason
                )
        return Verdict(len(dead) == len(tried.refused) and not tried.is_stopped, dead)


def _is_reusable(fact: Fact) -> bool:
    return (
        fact.record.HasField("task_succeeded")
        and fact.submitted.HasField("reuse")
        and fact.submitted.reuse.ttl.ToTimedelta() >= _SHORTEST_TTL
        and "output" in fact.write
    )
