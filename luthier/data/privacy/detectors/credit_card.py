"""Payment card numbers: the Luhn checksum and the issuers' prefixes (ISO/IEC 7812)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.privacy.spans import Document, Kind, Span, detector, words

_NUMBER = re.compile(r"(?<![\w.,#/-])\d(?:[ -]?\d){11,18}(?![\w#/]|[.,-]\d)")
_CONTEXT = re.compile(
    r"\b(?:credit|debit|card|cc|visa|master ?card|amex|american express|maestro|pan|cvv|payment|"
    r"tarjeta|karte|kreditkarte|carte|carta|kaart|cart[aã]o)\b"
)
#: Numbers that card networks publish for tests.
_TESTS = words(
    "4111111111111111 4242424242424242 4012888888881881 4222222222222 5555555555554444 "
    "5105105105105100 378282246310005 371449635398431 6011111111111117 6011000990139424 "
    "30569309025904 38520000023237 3530111333300000 3566002020360505 5200828282828210 "
    "4000056655665556 2223003122003222 5454545454545454 4000000000000002"
)

# issuer, lowest and highest prefix, lengths
_ISSUERS: tuple[tuple[str, int, int, tuple[int, ...]], ...] = (
    ("Visa", 4, 4, (13, 16, 19)),
    ("Mastercard", 51, 55, (16,)),
    ("Mastercard", 2221, 2720, (16,)),
    ("American Express", 34, 34, (15,)),
    ("American Express", 37, 37, (15,)),
    ("Discover", 6011, 6011, (16, 19)),
    ("Discover", 644, 649, (16, 19)),
    ("Discover", 65, 65, (16, 19)),
    ("Diners Club", 300, 305, (14,)),
    ("Diners Club", 36, 36, (14,)),
    ("Diners Club", 38, 39, (14,)),
    ("JCB", 3528, 3589, (16, 17, 18, 19)),
    ("JCB", 1800, 1800, (15,)),
    ("JCB", 2131, 2131, (15,)),
    ("UnionPay", 62, 62, (16, 17, 18, 19)),
    ("Mir", 2200, 2204, (16,)),
    ("RuPay", 60, 60, (16,)),
    ("Maestro", 50, 50, tuple(range(12, 20))),
    ("Maestro", 56, 58, tuple(range(12, 20))),
    ("Maestro", 63, 63, tuple(range(12, 20))),
    ("Maestro", 67, 67, tuple(range(12, 20))),
)


def luhn(digits: str) -> bool:
    """Whether a number passes the checksum of ISO/IEC 7812-1, annex B."""
    total = sum(int(d) for d in digits[-1::-2])
    total += sum((0, 2, 4, 6, 8, 1, 3, 5, 7, 9)[int(d)] for d in digits[-2::-2])
    return total % 10 == 0


def issuer(digits: str) -> str | None:
    """The card network whose prefix and length the number has, or None."""
    for name, low, high, lengths in _ISSUERS:
        if len(digits) in lengths and low <= int(digits[: len(str(low))]) <= high:
            return name
    return None


@detector("credit_card", Kind("CREDIT_CARD", "payment card number", "identifier"), digits=True)
def credit_cards(document: Document) -> Iterator[Span]:
    """12 to 19 digits, perhaps in groups, that pass Luhn's checksum under an issuer's prefix."""
    for match in _NUMBER.finditer(document.text):
        number = match[0]
        digits = number.replace(" ", "").replace("-", "")
        if not digits.isascii() or len(set(digits)) < 3 or not luhn(digits):
            continue
        network = issuer(digits)
        before = _CONTEXT.search(document.before(match.start(), 60))
        context = before or _CONTEXT.search(document.after(match.end(), 30))
        if network is None:
            if before and len(digits) > 12:
                yield document.span(
                    match.start(),
                    match.end(),
                    "CREDIT_CARD",
                    0.8,
                    f"Luhn checksum, behind {before[0]!r}",
                )
            continue
        groups = re.split(r"[ -]", number)
        if len(groups) > 1:
            # 4-4-4-4, 4-6-5, 4-6-4; anything else is a row of numbers that happens to fit
            if [len(g) for g in groups] not in (
                [4, 4, 4, 4], [4, 6, 5], [4, 6, 4], [4, 4, 4, 4, 3], [4, 4, 4, 1], [4, 4, 4]
            ) and not context:  # fmt: skip
                continue
        elif (network == "Maestro" or len(digits) < 14) and not context:
            continue  # too many plain numbers have this form
        if digits in _TESTS:
            confidence, evidence = 0.6, f"{network} number published for tests"
        elif context:
            confidence, evidence = 0.99, f"Luhn checksum, {network} prefix, {context[0]!r} near it"
        elif len(groups) > 1:
            confidence, evidence = 0.95, f"Luhn checksum, {network} prefix, grouped as on a card"
        else:
            confidence, evidence = 0.75, f"Luhn checksum, {network} prefix"
        yield document.span(match.start(), match.end(), "CREDIT_CARD", confidence, evidence)
