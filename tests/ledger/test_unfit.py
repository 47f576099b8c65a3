"""Submissions of which no task is to be made: in every store."""

import pytest

from callsheet.ledger.acceptance import Accepted, Outcome
from callsheet.ledger.access import Principal
from callsheet.ledger.errors import LedgerError, MemoryInsufficient, RequestIdReused, RoleMissing
from tests.support.ledgers import OWNER, Cell, ping
from tests.support.reusing import accept, image, made, succeed

UNFIT = MemoryInsufficient(
    fields=("spec.generate_image.width",), model="film", asked="it", needed="9 GB", most="8 GB"
)


async def test_what_is_unfit_makes_no_task(plane: Cell) -> None:
    for command in (image(), image(joins=True), ping(), ping(request_id="r")):
        with pytest.raises(MemoryInsufficient):
            await accept(plane, command._replace(unfit=UNFIT))
    assert await plane.store.count(plane.keys.project("default")) == 0
    assert await plane.store.counts(plane.keys.reuse_counts) == {}
    # And leaves nothing that a fit one would be answered with
    assert (await accept(plane, image(joins=True))).outcome is Outcome.CREATED
    assert (await accept(plane, ping(request_id="r"))).outcome is Outcome.CREATED


async def test_a_request_that_made_a_task_is_answered_by_it_though_it_would_be_unfit_now(
    plane: Cell,
) -> None:
    first = await made(plane, ping("x", request_id="r"))
    again = await accept(plane, ping("x", request_id="r", unfit=UNFIT))
    assert again == Accepted(first, Outcome.REPEATED)
    with pytest.raises(RequestIdReused):
        await accept(plane, ping("y", request_id="r", unfit=UNFIT))


async def test_what_is_there_already_answers_what_is_unfit(plane: Cell) -> None:
    """A worker that had the memory rendered it, or does so."""
    waiting = await made(plane, image(joins=True))
    joined = await accept(plane, image(joins=True, unfit=UNFIT))
    assert (joined.task.id, joined.outcome) == (waiting.id, Outcome.JOINED)
    source = await succeed(plane, waiting.id)
    reused = await accept(plane, image(unfit=UNFIT))
    assert (reused.task.reused_from, reused.outcome) == (source.id, Outcome.REUSED)


async def test_of_many_each_is_answered_on_its_own(plane: Cell) -> None:
    commands = [ping("a"), ping("b", unfit=UNFIT), image("bb", unfit=UNFIT), image("cc"), ping("c")]
    answers = await plane.ledger.accept_many(OWNER, commands)
    told = [answer if isinstance(answer, LedgerError) else answer.outcome for answer in answers]
    assert told == [Outcome.CREATED, UNFIT, UNFIT, Outcome.CREATED, Outcome.CREATED]


async def test_who_may_not_submit_is_told_that_first(plane: Cell) -> None:
    nobody = Principal("22222222", frozenset({"default"}), frozenset())
    with pytest.raises(RoleMissing):
        await plane.ledger.accept(nobody, ping(unfit=UNFIT))
