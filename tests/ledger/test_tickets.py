"""Tickets: a part of what a key allows, for a while, and never more than the key itself."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from callsheet.ledger.access import Principal, Role, Ticket
from callsheet.ledger.credentials import LONGEST, Credentials
from callsheet.ledger.errors import (
    KeyInvalid,
    KeyNeeded,
    LedgerError,
    ProjectNotFound,
    RoleMissing,
    TicketExpired,
    TicketNeeded,
    TicketNotRenewable,
    TicketRevoked,
    UnknownVersion,
)
from callsheet.ledger.index import Keys
from callsheet.ledger.instants import instant
from callsheet.ledger.keys import create_key, revoke_key
from callsheet.ledger.redis_connection import RedisConnection
from callsheet.ledger.tickets import read_ticket, sign_ticket

NOON = instant(1_900_000_000_000_000)
SECRET = b"s" * 64
KEY = Principal("0123abcd", frozenset({"a", "b"}), frozenset(Role))
TICKET = Ticket("0f" * 12, "0123abcd", frozenset({Role.READ}), frozenset({"a"}), NOON)
LIFE = timedelta(hours=1)
A_MOMENT = timedelta(microseconds=1)


def allowed(ticket: Ticket = TICKET, key: Principal = KEY) -> Principal:
    return read_ticket(sign_ticket(SECRET, ticket)).allows(SECRET, key, now=NOON - A_MOMENT)


def test_a_ticket_allows_what_it_says() -> None:
    assert allowed() == Principal(
        "0123abcd", frozenset({"a"}), frozenset({Role.READ}), TICKET, A_MOMENT
    )


def test_a_ticket_that_says_nothing_allows_what_its_key_does() -> None:
    whole = replace(TICKET, roles=frozenset(), projects=frozenset())
    assert allowed(whole) == replace(KEY, ticket=whole, time_left=A_MOMENT)


def test_a_ticket_never_allows_more_than_its_key_does_now() -> None:
    less = replace(KEY, projects=frozenset({"b"}), roles=frozenset({Role.SUBMIT}))
    found = allowed(key=less)
    assert (found.projects, found.roles) == (frozenset(), frozenset())


def test_a_ticket_ends_with_its_time() -> None:
    signed = read_ticket(sign_ticket(SECRET, TICKET))
    with pytest.raises(TicketExpired):
        signed.allows(SECRET, KEY, now=NOON)


@pytest.mark.parametrize("secret", [b"another", b"", SECRET + b"s"])
def test_a_ticket_of_another_secret_is_invalid(secret: bytes) -> None:
    signed = read_ticket(sign_ticket(SECRET, TICKET))
    with pytest.raises(KeyInvalid):
        signed.allows(secret, KEY, now=NOON - A_MOMENT)


@given(place=st.integers(0, 200), character=st.sampled_from("Aaz09-_."))
def test_a_ticket_that_was_changed_anywhere_is_refused(place: int, character: str) -> None:
    text = sign_ticket(SECRET, TICKET)
    changed = text[: place % len(text)] + character + text[place % len(text) + 1 :]
    try:
        signed = read_ticket(changed)
        found = signed.allows(SECRET, KEY, now=NOON - A_MOMENT)
    except (KeyInvalid, UnknownVersion, TicketExpired):
        return
    # Base64 may spell its last bits in more than one way: what it says is what was signed.
    assert (signed.ticket, found) == (TICKET, allowed())


@given(st.text(max_size=80))
def test_what_is_no_ticket_is_invalid(text: str) -> None:
    for each in (text, f"ct_{text}", f"ct_{text}.{'A' * 43}"):
        with pytest.raises((KeyInvalid, UnknownVersion)):
            read_ticket(each)


@pytest.fixture
def credentials(redis: Redis, cell: str) -> Credentials:
    return Credentials(RedisConnection(redis), Keys(cell))


async def a_key(redis: Redis, cell: str, *, roles: frozenset[str] = frozenset({"read"})) -> str:
    _, text = await create_key(redis, cell=cell, projects=frozenset({"a", "b"}), roles=roles)
    return text


async def a_ticket(
    credentials: Credentials, key: str, *, roles: frozenset[Role] = frozenset()
) -> str:
    principal = await credentials.recognise(key)
    text, _ = await credentials.make_ticket(
        principal, time_to_live=LIFE, roles=roles, projects=frozenset()
    )
    return text


async def test_a_ticket_is_recognised_like_a_key(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    key = await a_key(redis, cell)
    text = await a_ticket(credentials, key)
    by_key, by_ticket = await credentials.recognise(key), await credentials.recognise(text)
    assert replace(by_ticket, ticket=None, time_left=None) == by_key
    assert by_ticket.time_left is not None
    assert timedelta() < by_ticket.time_left <= LIFE
    assert len(text) < 120


async def test_a_ticket_ends_when_its_key_is_revoked(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    text = await a_ticket(credentials, await a_key(redis, cell))
    principal = await credentials.recognise(text)
    await revoke_key(redis, cell=cell, key_id=principal.key_id)
    with pytest.raises(KeyInvalid):
        await credentials.recognise(text)


async def test_a_ticket_cannot_make_tickets(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    text = await a_ticket(credentials, await a_key(redis, cell))
    with pytest.raises(KeyNeeded):
        await a_ticket(credentials, text)


async def renewable(
    credentials: Credentials, key: str, *, life: timedelta, renewable_for: timedelta
) -> Principal:
    """Return whom a new ticket stands for that can be renewed."""
    text, _ = await credentials.make_ticket(
        await credentials.recognise(key),
        time_to_live=life,
        roles=frozenset({Role.READ}),
        projects=frozenset({"a"}),
        renewable_for=renewable_for,
    )
    return await credentials.recognise(text)


async def test_a_renewed_ticket_allows_the_same_from_then_on(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    first = await renewable(
        credentials, await a_key(redis, cell), life=LIFE, renewable_for=2 * LIFE
    )
    text, expire_time = await credentials.renew_ticket(first, time_to_live=LIFE)
    second = await credentials.recognise(text)
    assert first.ticket is not None
    assert second.ticket == replace(first.ticket, expire_time=expire_time)
    assert expire_time > first.ticket.expire_time
    assert (second.roles, second.projects) == (frozenset({Role.READ}), frozenset({"a"}))


async def test_no_renewal_outlasts_the_first_tickets_renewals(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    key = await a_key(redis, cell)
    first = await renewable(credentials, key, life=2 * LIFE, renewable_for=LIFE)
    assert first.ticket is not None
    assert first.ticket.expire_time == first.ticket.renewal_end_time
    _, expire_time = await credentials.renew_ticket(first, time_to_live=2 * LIFE)
    assert expire_time == first.ticket.renewal_end_time
    over = replace(first.ticket, renewal_end_time=NOON - 10_000 * LIFE * 24)
    with pytest.raises(TicketExpired):
        await credentials.renew_ticket(replace(first, ticket=over), time_to_live=LIFE)


async def test_what_cannot_be_renewed_is_refused(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    key = await a_key(redis, cell)
    with pytest.raises(TicketNeeded):
        await credentials.renew_ticket(await credentials.recognise(key), time_to_live=LIFE)
    plain = await credentials.recognise(await a_ticket(credentials, key))
    with pytest.raises(TicketNotRenewable):
        await credentials.renew_ticket(plain, time_to_live=LIFE)


async def test_a_renewal_gives_nothing_back_that_the_key_lost(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    """A ticket whose key lost all it named allows nothing, and not everything, when renewed."""
    first = await renewable(credentials, await a_key(redis, cell), life=LIFE, renewable_for=LIFE)
    poor = replace(first, roles=frozenset(), projects=frozenset())
    text, _ = await credentials.renew_ticket(poor, time_to_live=LIFE)
    renewed = read_ticket(text).ticket
    assert (renewed.roles, renewed.projects) == (frozenset({Role.READ}), frozenset({"a"}))


async def test_a_revoked_ticket_ends_with_all_its_renewals_and_no_other(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    key = await a_key(redis, cell)
    first = await renewable(credentials, key, life=LIFE, renewable_for=2 * LIFE)
    text, _ = await credentials.renew_ticket(first, time_to_live=LIFE)
    other = await a_ticket(credentials, key)
    await credentials.revoke_ticket(first)
    with pytest.raises(TicketRevoked):
        await credentials.recognise(text)
    assert not isinstance((await credentials.recognise_all([other, key]))[other], LedgerError)
    # And it is remembered for as long as any of them could be shown
    assert first.ticket is not None
    left = await redis.pttl(Keys(cell).revoked_ticket(first.ticket.id))
    assert LIFE < timedelta(milliseconds=left) <= 2 * LIFE + timedelta(seconds=1)


async def test_a_key_is_not_given_up_like_a_ticket(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    principal = await credentials.recognise(await a_key(redis, cell))
    with pytest.raises(TicketNeeded):
        await credentials.revoke_ticket(principal)


async def test_a_ticket_is_not_made_for_more_than_its_key_allows(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    principal = await credentials.recognise(await a_key(redis, cell))
    for roles, projects, refusal in (
        ({Role.OPERATE}, {"a"}, RoleMissing),
        ({Role.READ}, {"a", "c"}, ProjectNotFound),
    ):
        with pytest.raises(refusal):
            await credentials.make_ticket(
                principal,
                time_to_live=LIFE,
                roles=frozenset(roles),
                projects=frozenset(projects),
            )


async def test_the_largest_ticket_of_the_contract_is_no_longer_than_it_says(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    projects = frozenset(f"{number:02}" + "p" * 62 for number in range(16))
    _, key = await create_key(redis, cell=cell, projects=projects, roles=frozenset({"read"}))
    text, _ = await credentials.make_ticket(
        await credentials.recognise(key), time_to_live=LIFE, roles=frozenset(), projects=projects
    )
    assert len(text) <= LONGEST
    assert (await credentials.recognise(text)).projects == projects


async def test_a_ticket_of_another_cell_is_invalid(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    """Even if that cell has a key of the same text."""
    key = await a_key(redis, cell)
    text = await a_ticket(credentials, key)
    other = Credentials(RedisConnection(redis), Keys(f"{cell}-other"))
    await create_key(
        redis,
        cell=f"{cell}-other",
        projects=frozenset({"a"}),
        roles=frozenset({"read"}),
        text=key,
    )
    await a_ticket(other, key)
    with pytest.raises(KeyInvalid):
        await other.recognise(text)


async def test_many_are_recognised_at_once(
    redis: Redis, cell: str, credentials: Credentials
) -> None:
    keys = [await a_key(redis, cell) for _ in range(3)]
    tickets = [await a_ticket(credentials, key) for key in keys]
    gone = await credentials.recognise(keys[0])
    await revoke_key(redis, cell=cell, key_id=gone.key_id)
    texts = [*keys, *tickets, "", "cs_x", "ct_x"]
    found = await credentials.recognise_all(texts)
    assert set(found) == set(texts)
    good = {text for text, verdict in found.items() if not isinstance(verdict, LedgerError)}
    assert good == {*keys[1:], *tickets[1:]}
