"""Which addresses are public, and which hosts are addresses in disguise.

Python's `is_global` lets through forms that end inside: NAT64, 6to4, multicast and more. So what is
public stands here, as one table that no version of Python changes.
"""

import re
import unicodedata
from collections.abc import Sequence
from ipaddress import (
    AddressValueError,
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
)
from typing import Final

Address = IPv4Address | IPv6Address

#: What of IPv4 is not the public internet (IANA's special-purpose registry, without its "global").
_NOT_PUBLIC_4: Final = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by carriers
        "127.0.0.0/8",  # loopback
        "169.254.0.0/16",  # link-local, and the metadata services of clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # protocol assignments
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
    )
)

#: All that is assigned as public IPv6. What embeds an IPv4 address (::/96, ::ffff:0:0/96,
#: 64:ff9b::/96, 64:ff9b:1::/48) lies outside, and so do 100::/64, 5f00::/16, fc00::/7, fe80::/10
#: and ff00::/8.
_GLOBAL_UNICAST_6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments, Teredo among them
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4, which embeds an IPv4 address
        "3fff::/20",  # documentation
    )
)

_DECIMAL: Final = re.compile(r"0|[1-9][0-9]*", re.ASCII)
_OCTAL: Final = re.compile(r"0[0-7]+", re.ASCII)
_HEXADECIMAL: Final = re.compile(r"0[xX][0-9a-fA-F]+", re.ASCII)
#: Longer hosts are no addresses; it also bounds what int() is given.
_LONGEST: Final = 256


def is_public(address: Address) -> bool:
    """Whether the address belongs to the public internet and to no special purpose."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address.ipv4_mapped is not None:
        return is_public(address.ipv4_mapped)
    return address in _GLOBAL_UNICAST_6 and not any(address in network for network in _NOT_PUBLIC_6)


def is_loopback(address: Address) -> bool:
    """Whether the address is this machine's own loopback."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback


def may_dial(address: Address, *, loopback: bool) -> bool:
    """Whether a webhook may go there: a public address, or loopback where that is allowed."""
    return is_public(address) or (loopback and is_loopback(address))


def literal(host: str) -> Address | None:
    """Return the address that the host spells, as getaddrinfo reads it; None: it is a name.

    It reads dotted decimal, octal and hexadecimal, fewer than four parts (`127.1`, `2130706433`),
    full-width and circled digits and dots, a trailing dot, and IPv6 with or without brackets.
    """
    text = plain_host(host)
    if len(text) > _LONGEST:
        return None
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare:
        return _ipv6(bare)
    return _ipv4(bare.removesuffix(".").split("."))


def is_numeric(host: str) -> bool:
    """Whether the host ends in a number: then it is an address, or it is nothing."""
    last = plain_host(host).removesuffix(".").rpartition(".")[2]
    return last.isdigit() or _HEXADECIMAL.fullmatch(last) is not None


def plain_host(host: str) -> str:
    """Return the host with its compatibility forms and full stops made plain, in lower case."""
    return unicodedata.normalize("NFKC", host).replace("\u3002", ".").lower()


def _ipv6(text: str) -> IPv6Address | None:
    try:
        return IPv6Address(text)
    except AddressValueError:
        return None


def _ipv4(parts: Sequence[str]) -> IPv4Address | None:
    """Read what inet_aton reads: one to four numbers, the last of which fills the rest."""
    if len(parts) > 4:
        return None
    numbers = [_number(part) for part in parts]
    value = 0
    for place, number in enumerate(numbers):
        last = place == len(numbers) - 1
        width = 8 * (5 - len(numbers)) if last else 8
        if number is None or number >= 1 << width:
            return None
        value = value << width | number
    return IPv4Address(value)


def _number(text: str) -> int | None:
    if _DECIMAL.fullmatch(text):
        return int(text)
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    return int(text, 16) if _HEXADECIMAL.fullmatch(text) else None
