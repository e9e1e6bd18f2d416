"""Addresses of machines: IPv4, IPv6 and hardware addresses."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from luthier.data.privacy.spans import Document, Kind, Span, detector

_V4 = re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w]|\.\d)")
_V6 = re.compile(
    r"(?<![\w:.])(?:[0-9A-Fa-f]{1,4}|:(?=:))(?::[0-9A-Fa-f]{0,4}){1,8}(?:\.\d{1,3}){0,3}(?![\w:])"
)
_MAC = re.compile(
    r"(?<![\w:-])[0-9A-Fa-f]{2}([:-])[0-9A-Fa-f]{2}(?:\1[0-9A-Fa-f]{2}){4}(?![\w:]|-\w)"
)
_NAMED = re.compile(r"\bip\b|\bipv4\b|\baddress|\bhosts?\b|\bserver|\bping\b|\bdns\b|\bgateway")
_VERSION = re.compile(
    r"(?:\bv|version|release|build|section|chapter|§|firmware|driver)[ :=#-]{0,3}$"
)
#: Blocks that RFC 5737 and RFC 3849 keep for documentation.
DOCUMENTATION = tuple(
    ipaddress.ip_network(net)
    for net in ("192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "2001:db8::/32")
)


@detector(
    "network",
    Kind("IP_ADDRESS", "IP address", "identifier", "IP addresses"),
    Kind("MAC_ADDRESS", "hardware address (MAC)", "identifier", "hardware addresses (MAC)"),
)
def network_addresses(document: Document) -> Iterator[Span]:
    """IP addresses that the standard library accepts, and six pairs of hex digits."""
    text = document.text
    for match in _V4.finditer(text):
        if _VERSION.search(document.before(match.start(), 12)):
            continue
        yield from _address(document, match)
    if ":" not in text:
        return
    for match in _V6.finditer(text):
        # "::" alone is a name's separator in several languages
        if sum(c not in ":." for c in match[0]) >= 3:
            yield from _address(document, match)
    for match in _MAC.finditer(text):
        pairs = set(match[0].lower().replace("-", ":").split(":"))
        if pairs not in ({"00"}, {"ff"}):
            yield document.span(
                match.start(), match.end(), "MAC_ADDRESS", 0.9, "six pairs of hexadecimal digits"
            )


def _like_a_version(address: str) -> bool:
    first, second, third, _ = (int(part) for part in address.split("."))
    return first < 20 and second < 100 and third < 20


def _address(document: Document, match: re.Match[str]) -> Iterator[Span]:
    try:
        address = ipaddress.ip_address(match[0])
    except ValueError:
        return
    if address.is_loopback or address.is_unspecified or address.is_multicast:
        return  # every machine has these
    if match[0].startswith("255."):
        return
    confidence, evidence = 0.9, f"a valid IPv{address.version} address"
    if any(address in net for net in DOCUMENTATION if net.version == address.version):
        confidence, evidence = 0.6, "an IP address kept for documentation"
    elif address.is_private:
        confidence, evidence = 0.6, "an IP address of a private network"
    elif (
        address.version == 4
        and _like_a_version(match[0])
        and not _NAMED.search(document.before(match.start(), 30))
    ):
        confidence, evidence = 0.55, "small numbers, which may be a version"
    yield document.span(match.start(), match.end(), "IP_ADDRESS", confidence, evidence)
