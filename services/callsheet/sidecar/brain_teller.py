"""Tells facts to the brain, and decides when one that it refuses has had its chances."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, NamedTuple, cast

import structlog

from callsheet.brain.brain import MOST_EVENTS, Brain
from callsheet.brain.errors import (
    AnswerMalformed,
    BrainError,
    BrainRefused,
    BrainUnavailable,
    MessageTooLarge,
)
from callsheet.brain.tools import Tool
from callsheet.ledger.graph_progress import FactKey
from callsheet.ledger.instants import instant
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
#: What all of them together may take: a cache must not hold up facts.
_CACHE_LIMIT: Final = timedelta(seconds=2)

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Verdict(NamedTuple):
    """What became of facts: all are told or dead, or some must be told again later."""

    is_done: bool
    has_accepted: bool
    dead: list[tuple[FactKey, str]]


class _Refused(NamedTuple):
    key: FactKey
    reason: str
    #: The brain called it a failure of its own.
    is_its_own_failure: bool = False


@dataclass
class _Round:
    accepted: int = 0
    refused: list[_Refused] = field(default_factory=list[_Refused])
    #: Tasks of which a fact was refused: what follows in them waits for it.
    held: set[str] = field(default_factory=set[str])
    #: Whether something waited so.
    has_held: bool = False
    is_stopped: bool = False


class Teller:
    """Tells facts; remembers those of the places where it is that were taken, or refused how often.

    *now* is the clock.
    """

    def __init__(self, brain: Brain, *, now: Callable[[], datetime]) -> None:
        self._brain = brain
        self._now = now
        self._refusals: dict[FactKey, int] = {}
        self._passed: set[FactKey] = set()
        self._told: set[FactKey] = set()
        #: How many facts had been taken when the brain first failed at a fact.
        self._accepted_before: dict[FactKey, int] = {}
        self._accepted = 0
        self._vain_rounds = 0

    @property
    def takes_single_facts(self) -> bool:
        """Whether the brain keeps facts apart: each must say then what the task was about."""
        return not self._brain.offers(Tool.STORE_TASK_EVENTS)

    @property
    def waits(self) -> bool:
        """Whether some facts of a place were taken, and others of it must be told again."""
        return bool(self._told)

    def move_on(self, facts: Sequence[Fact]) -> None:
        """Forget what became of the facts: their place is behind us."""
        for fact in facts:
            self._refusals.pop(fact.key, None)
            self._accepted_before.pop(fact.key, None)
            self._passed.discard(fact.key)
            self._told.discard(fact.key)

    def begin_anew(self) -> None:
        """Forget everything: the brain may be another one, and so may the place."""
        self._refusals.clear()
        self._accepted_before.clear()
        self._passed.clear()
        self._told.clear()
        self._vain_rounds = 0

    async def tell(self, facts: Sequence[Fact]) -> Verdict:
        """Write the facts, those of each task in order; find by halving which ones are refused.

        Raises:
            BrainUnavailable: the brain is away, or has no room now; some may have been written.
        """
        done = self._passed | self._told
        waiting = [fact for fact in facts if fact.key not in done]
        tried = _Round()
        if waiting:
            try:
                await self._write(waiting, tried)
            except BrainUnavailable as error:
                # A fact that ends the brain, or takes it for ever, is poison too. It shows when
                # the batches have shrunk to it alone.
                if not error.was_sent or len(waiting) > 1:
                    raise
                tried.refused.append(_Refused(waiting[0].key, str(error)))
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
                age = self._now() - instant(fact.record.time)
                ttl = terms.ttl.ToTimedelta() - max(age, timedelta(0))
                if ttl < _SHORTEST_TTL:
                    return  # told late: its time is over
                try:
                    await self._brain.cache_task_result(
                        fact.submitted.project,
                        key=terms.digest.hex(),
                        task_id=fact.write["task_id"],
                        result=as_json(fact.record.task_succeeded.output),
                        ttl=ttl,
                    )
                except BrainError as error:
                    # A cache: who needs the result finds it elsewhere, or makes it again.
                    _log.debug("graph_result_uncached", reason=str(error))

        try:
            async with asyncio.timeout(_CACHE_LIMIT.total_seconds()):
                await asyncio.gather(*map(keep, wanted))
        except TimeoutError:
            _log.info("graph_results_uncached", results=len(wanted))

    async def _write(self, facts: Sequence[Fact], tried: _Round) -> None:
        free = [fact for fact in facts if fact.key.task_id not in tried.held]
        tried.has_held |= len(free) < len(facts)
        facts = free
        if tried.is_stopped or not facts:
            return
        if len(facts) > MOST_EVENTS:  # with what a gap left out, or what follows who waits
            await self._write(facts[:MOST_EVENTS], tried)
            await self._write(facts[MOST_EVENTS:], tried)
            return
        try:
            await self._brain.store_task_events(
                [fact.write for fact in facts], time_limit=_WRITE_LIMIT
            )
        except (BrainRefused, AnswerMalformed, MessageTooLarge) as error:
            if isinstance(error, BrainRefused) and error.is_passing:
                raise BrainUnavailable(str(error)) from error
            if len(facts) == 1:
                own = isinstance(error, BrainRefused) and error.is_its_own_failure
                tried.refused.append(_Refused(facts[0].key, str(error), is_its_own_failure=own))
                tried.held.add(facts[0].key.task_id)
                tried.is_stopped = not tried.accepted and len(tried.refused) >= self._enough(tried)
                return
            half = len(facts) // 2
            await self._write(facts[:half], tried)
            await self._write(facts[half:], tried)
        else:
            tried.accepted += len(facts)
            self._accepted += len(facts)
            self._told.update(fact.key for fact in facts)

    def _enough(self, tried: _Round) -> int:
        """Return how many refusals, and nothing taken, end a round.

        Facts at which the brain fails are never dead before others were taken: each round in vain
        looks further for those.
        """
        own = all(refused.is_its_own_failure for refused in tried.refused)
        return _REFUSES_ALL * (1 + self._vain_rounds) if own else _REFUSES_ALL

    def _judge(self, tried: _Round) -> Verdict:
        self._vain_rounds = 0 if tried.accepted else self._vain_rounds + 1
        most = PROVEN_REFUSALS if self._told else UNPROVEN_REFUSALS
        dead: list[tuple[FactKey, str]] = []
        for key, reason, is_its_own_failure in tried.refused:
            if is_its_own_failure:
                before = self._accepted_before.setdefault(key, self._accepted)
                if before == self._accepted:
                    continue  # nothing was taken since: it may be the brain, and not the fact
            count = self._refusals[key] = self._refusals.get(key, 0) + 1
            if count >= most:
                self._passed.add(key)
                dead.append((key, reason))
                _log.error(
                    "graph_fact_dead", task_id=key.task_id, sequence=key.sequence, reason=reason
                )
        is_done = len(dead) == len(tried.refused) and not (tried.is_stopped or tried.has_held)
        return Verdict(is_done, tried.accepted > 0, dead)


def _is_reusable(fact: Fact) -> bool:
    return (
        fact.record.HasField("task_succeeded")
        and not fact.record.task_succeeded.reused_from  # whose result it is has cached it
        and fact.submitted.HasField("reuse")
        and fact.submitted.reuse.ttl.ToTimedelta() >= _SHORTEST_TTL
        and "output" in fact.write
    )
