"""Who is dialled, and who never is. What connects only writes down to whom."""

import asyncio
import ssl
import threading
from collections.abc import Sequence
from datetime import timedelta

import pytest

from callsheet.runtime.targets import parse_target
from callsheet.sidecar.dialling import AddressRefused, Dialler, Resolve, Resolver, ResolverBusy
from callsheet.sidecar.lines import Line
from tests.support.eventually import eventually

THIS_NETWORK = "0.0.0.0"  # noqa: S104  # nothing binds to it here
HOSTILE = [
    THIS_NETWORK,
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.8",
    "192.0.0.255",
    "192.0.2.1",
    "192.88.99.1",
    "192.88.99.3",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fe80::1",
    "fe80::1%1",
    "ff02::1",
]
PUBLIC = "93.184.216.34"


class Notebook:
    """Connects to nobody, and knows to whom it was to connect."""

    def __init__(self) -> None:
        self.dialled: list[str] = []

    async def __call__(
        self, address: str, port: int, context: ssl.SSLContext | None, host: str | None
    ) -> Line:
        self.dialled.append(address)
        raise ConnectionRefusedError("nobody is there")


def dialler(
    answers: list[Sequence[str]], *, allow_loopback: bool = False
) -> tuple[Dialler, Notebook]:
    """Return a dialler whose resolver gives the answers in turn."""
    turns = iter(answers)

    async def resolve(host: str, port: int, project: str) -> Sequence[str]:
        return next(turns)

    return dialling(resolve, allow_loopback=allow_loopback)


def dialling(resolve: Resolve, *, allow_loopback: bool) -> tuple[Dialler, Notebook]:
    notebook, trust = Notebook(), ssl.create_default_context()
    made = Dialler(resolve, allow_loopback=allow_loopback, trust=trust, connect=notebook)
    return made, notebook


@pytest.mark.parametrize("address", HOSTILE)
async def test_an_address_inside_is_never_dialled(address: str) -> None:
    vetted, notebook = dialler([[address]])
    with pytest.raises(AddressRefused):
        await vetted.dial(parse_target("https://innocent.example/"), project="p")
    assert notebook.dialled == []


@pytest.mark.parametrize("address", HOSTILE)
async def test_a_name_with_one_address_inside_is_refused_as_a_whole(address: str) -> None:
    vetted, notebook = dialler([[PUBLIC, address]])
    with pytest.raises(AddressRefused):
        await vetted.dial(parse_target("https://innocent.example/"), project="p")
    assert notebook.dialled == []


async def test_the_address_that_was_vetted_is_dialled_and_the_name_is_not_asked_again() -> None:
    # Given a name that turns inward after it was vetted
    vetted, notebook = dialler([[PUBLIC], ["127.0.0.1"]])
    with pytest.raises(ConnectionRefusedError):
        await vetted.dial(parse_target("https://turning.example/"), project="p")
    assert notebook.dialled == [PUBLIC]
    # Then the next dial vets anew
    with pytest.raises(AddressRefused):
        await vetted.dial(parse_target("https://turning.example/"), project="p")
    assert notebook.dialled == [PUBLIC]


async def test_a_few_addresses_are_dialled_in_turn() -> None:
    addresses = [f"93.184.216.{last}" for last in range(10)]
    vetted, notebook = dialler([addresses])
    with pytest.raises(ConnectionRefusedError):
        await vetted.dial(parse_target("https://many.example/"), project="p")
    assert notebook.dialled == addresses[:4]


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "[::1]", "0x7f000001", "0x7f.1", "2130706433", "017700000001", "127.1"),
        *("127。0。0。1", "[::ffff:127.0.0.1]", "[0:0:0:0:0:0:0:1]"),
    ],
)
async def test_loopback_in_every_spelling_needs_the_setting(host: str) -> None:
    resolver, target = Resolver(), parse_target(f"http://{host}/")
    try:
        closed, notebook = dialling(resolver, allow_loopback=False)
        with pytest.raises(AddressRefused):
            await closed.dial(target, project="p")
        assert notebook.dialled == []
        opened, notebook = dialling(resolver, allow_loopback=True)
        with pytest.raises(OSError, match="nobody is there"):
            await opened.dial(target, project="p")
        assert notebook.dialled in (["127.0.0.1"], ["::1"], ["::ffff:127.0.0.1"])
    finally:
        resolver.close()


@pytest.mark.parametrize("address", ["10.0.0.1", "169.254.169.254", THIS_NETWORK, "fe80::1"])
async def test_the_setting_for_loopback_allows_nothing_else(address: str) -> None:
    vetted, notebook = dialler([[address]], allow_loopback=True)
    with pytest.raises(AddressRefused):
        await vetted.dial(parse_target("https://innocent.example/"), project="p")
    assert notebook.dialled == []


async def test_a_name_that_nobody_knows_is_a_failed_connection() -> None:
    async def resolve(host: str, port: int, project: str) -> Sequence[str]:
        raise OSError("no such name")

    vetted, notebook = dialling(resolve, allow_loopback=False)
    with pytest.raises(OSError, match=r"gone\.example was not resolved"):
        await vetted.dial(parse_target("https://gone.example/"), project="p")
    assert notebook.dialled == []


async def test_names_are_resolved_beside_the_event_loop() -> None:
    resolver = Resolver()
    try:
        both = await asyncio.gather(resolver("localhost", 80, "p"), resolver("127.0.0.1", 80, "p"))
    finally:
        resolver.close()
    assert set(both[0]) <= {"127.0.0.1", "::1"}
    assert both[1] == ["127.0.0.1"]


class NameServers:
    """Answers at once, but for names that are slow: those when it is told to."""

    def __init__(self) -> None:
        self.answering = threading.Event()
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append(host)
        if host.startswith("slow"):
            assert self.answering.wait(30)
        return [PUBLIC]


async def test_slow_names_of_one_project_hold_up_no_other_project() -> None:
    servers = NameServers()
    resolver = Resolver(patience=timedelta(milliseconds=100), addresses=servers)
    try:
        slow = [asyncio.create_task(resolver(f"slow-{n}", 443, "hostile")) for n in range(40)]
        told = await asyncio.gather(*slow[8:], return_exceptions=True)
        # Then its share of the threads is taken, and the rest was not asked for
        assert all(isinstance(each, ResolverBusy) for each in told)
        assert len(servers.asked) == 8
        with pytest.raises(ResolverBusy):
            await resolver("quick", 443, "hostile")
        assert await resolver("quick", 443, "other") == [PUBLIC]
        # And once they have answered, it is its own again
        servers.answering.set()
        assert await asyncio.gather(*slow[:8]) == [[PUBLIC]] * 8
        assert await resolver("quick", 443, "hostile") == [PUBLIC]
    finally:
        servers.answering.set()
        resolver.close()


async def test_a_thread_is_taken_until_the_name_server_has_answered() -> None:
    """Who asked has gone, but the thread has not: else threads would be promised twice."""
    servers = NameServers()
    resolver = Resolver(patience=timedelta(milliseconds=100), addresses=servers)
    try:
        slow = [asyncio.create_task(resolver(f"slow-{n}", 443, "p")) for n in range(8)]

        async def all_asked() -> bool:
            return len(servers.asked) == 8

        await eventually(all_asked)
        for each in slow:
            each.cancel()
        await asyncio.wait(slow)
        with pytest.raises(ResolverBusy):
            await resolver("quick", 443, "p")
    finally:
        servers.answering.set()
        resolver.close()
