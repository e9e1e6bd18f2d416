"""Wallets of crypto currencies, by their checksums."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from luthier.data.privacy.spans import Document, Kind, Span, detector

_BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
_BASE58_FORM = re.compile(r"(?<![A-Za-z0-9])[13LMDX][1-9A-HJ-NP-Za-km-z]{25,34}(?![A-Za-z0-9])")
_BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
_BECH32_FORM = re.compile(r"(?<![a-z0-9])(bc|ltc)1([02-9ac-hj-np-z]{11,87})(?![a-z0-9])")
_ETHEREUM = re.compile(r"(?<![A-Za-z0-9])0x[0-9a-fA-F]{40}(?![A-Za-z0-9])")


def base58check(text: str) -> bool:
    """Whether the last four bytes are those of the double SHA-256 of the others."""
    number = 0
    for character in text:
        number = number * 58 + _BASE58.index(character)
    raw = number.to_bytes(25, "big") if number.bit_length() <= 200 else b""
    digest = hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()
    return bool(raw) and digest[:4] == raw[-4:]


def bech32(prefix: str, data: str) -> bool:
    """Whether the checksum of BIP 173 (constant 1) or BIP 350 (0x2bc830a3) holds."""
    values = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    values += [_BECH32.index(c) for c in data]
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, factor in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= factor if top >> bit & 1 else 0
    return check in (1, 0x2BC830A3)


@detector("wallet", Kind("CRYPTO_WALLET", "crypto wallet", "identifier"), digits=True)
def wallets(document: Document) -> Iterator[Span]:
    """Bitcoin and its kin by checksum; Ethereum by its form."""
    text = document.text
    for match in _BASE58_FORM.finditer(text):
        if base58check(match[0]):
            yield document.span(
                match.start(), match.end(), "CRYPTO_WALLET", 0.99, "Base58Check checksum"
            )
    if "bc1" in text or "ltc1" in text:
        for match in _BECH32_FORM.finditer(text):
            if bech32(match[1], match[2]):
                yield document.span(
                    match.start(), match.end(), "CRYPTO_WALLET", 0.99, "bech32 checksum"
                )
    if "0x" in text:
        for match in _ETHEREUM.finditer(text):
            if len(set(match[0])) > 8:
                yield document.span(
                    match.start(), match.end(), "CRYPTO_WALLET", 0.7, "0x and 40 hex digits"
                )
