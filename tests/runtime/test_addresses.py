"""Which addresses are public, and which hosts are addresses in disguise."""

import socket
from ipaddress import IPv4Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callsheet.runtime.addresses import is_loopback, is_numeric, is_public, literal, may_dial

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2600::",
    "2a00:1450:4001:81b::200e",
    "::ffff:8.8.8.8",
]

NOT_PUBLIC = [
    "0.0.0.0",  # noqa: S104  # an address to refuse, nothing is bound
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.0.9",
    "192.0.0.255",
    "192.0.2.1",
    "192.88.99.1",
    "192.88.99.3",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:10.0.0.1",
    "::ffff:169.254.169.254",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "100::1",
    "100:0:0:1::1",
    "2001::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "3fff::1",
    "3fff:fff:ffff::1",
    "5f00::1",
    "fc00::1",
    "fd12:3456::1",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "4000::1",
]

DISGUISED_LOOPBACK = [
    "127.0.0.1",
    "127.0.0.1.",
    "127.1",
    "127.0.1",
    "2130706433",
    "017700000001",
    "0x7f000001",
    "0X7F000001",
    "0x7f.1",
    "0177.0.0.1",
    "0x7f.0.0.0x1",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "１２７.0.0.1",  # noqa: RUF001  # the disguise under test
    "127。1",
]

NAMES = [
    "example.com",
    "localhost",
    "1.2.3.4.5",
    "256.0.0.1",
    "1.2.3.256",
    "1.2.65536",
    "4294967296",
    "08.1",
    "0x",
    "00x1",
    "+1",
    "-1",
    "1_0.1",
    "1..2",
    "",
    ".",
    "a" * 5000,
    "1" * 5000,
    "::g",
    "[::1",
    "1.2.3.4:80",
]


@pytest.mark.parametrize("text", PUBLIC)
def test_an_address_of_the_internet_is_public(text: str) -> None:
    assert is_public(ip_address(text))


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_an_address_with_a_special_purpose_is_not_public(text: str) -> None:
    assert not is_public(ip_address(text))


@pytest.mark.parametrize("host", DISGUISED_LOOPBACK)
def test_every_spelling_of_an_ipv4_address_is_read(host: str) -> None:
    assert literal(host) == IPv4Address("127.0.0.1")
    assert is_numeric(host)


@pytest.mark.parametrize("host", ["::1", "[::1]", "[0:0:0:0:0:0:0:1]", "[::ffff:127.0.0.1]"])
def test_every_spelling_of_an_ipv6_address_is_read(host: str) -> None:
    address = literal(host)
    assert address is not None
    assert is_loopback(address)


@pytest.mark.parametrize("host", NAMES)
def test_what_getaddrinfo_would_look_up_is_a_name(host: str) -> None:
    assert literal(host) is None


@pytest.mark.parametrize("host", ["1.2.3.4.5", "256.0.0.1", "08.1", "a.0x7f", "example.1"])
def test_a_host_that_ends_in_a_number_is_known_for_it(host: str) -> None:
    assert is_numeric(host)


@pytest.mark.parametrize("host", ["example.com", "4chan.org", "0x.com", "1e100.net", "a.0xg"])
def test_a_name_with_digits_is_not_numeric(host: str) -> None:
    assert not is_numeric(host)


_PART = st.one_of(
    st.integers(0, 2**33).map(str),
    st.integers(0, 2**33).map(hex),
    st.integers(0, 2**33).map(lambda number: f"0{number:o}"),
    st.integers(0, 300).map(str),
    st.text("0123456789abcdefx", min_size=1, max_size=4),
)


@given(st.lists(_PART, min_size=1, max_size=5).map(".".join))
def test_ipv4_is_read_as_the_c_library_reads_it(host: str) -> None:
    try:
        expected = IPv4Address(socket.inet_aton(host)) if host else None
    except OSError:
        expected = None
    assert literal(host) == expected


@pytest.mark.parametrize("text", ["127.0.0.1", "::1", "::ffff:127.0.0.1"])
def test_loopback_may_be_dialled_only_where_it_is_allowed(text: str) -> None:
    assert may_dial(ip_address(text), loopback=True)
    assert not may_dial(ip_address(text), loopback=False)


@pytest.mark.parametrize("text", ["10.0.0.1", "169.254.169.254", "fe80::1", "0.0.0.1"])
def test_other_private_addresses_may_never_be_dialled(text: str) -> None:
    assert not may_dial(ip_address(text), loopback=True)
