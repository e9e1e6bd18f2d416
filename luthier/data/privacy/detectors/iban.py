"""International bank account numbers (ISO 13616): length by country, remainder modulo 97."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.privacy.spans import Document, Kind, Span, detector, words

_START = re.compile(r"(?<![A-Za-z0-9])[A-Za-z]{2}\d{2}(?=[ -]?[A-Za-z0-9])")
_REST = re.compile(r"(?:[ -]?[A-Za-z0-9]){11,34}")
#: Characters in all, from the SWIFT IBAN registry.
LENGTHS = {
    country: int(length)
    for country, length in (
        pair.split(":")
        for pair in words(
            "AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BI:27 BR:29 BY:28 CH:21 CR:22 "
            "CY:28 CZ:24 DE:22 DJ:27 DK:18 DO:28 EE:20 EG:29 ES:24 FI:18 FK:18 FO:18 FR:27 GB:22 "
            "GE:22 GI:23 GL:18 GR:27 GT:28 HN:28 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 "
            "KW:30 KZ:20 LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 LY:25 MC:27 MD:24 ME:22 MK:19 MN:20 "
            "MR:27 MT:31 MU:30 NI:28 NL:18 NO:15 OM:23 PK:24 PL:28 PS:29 PT:25 QA:29 RO:24 RS:22 "
            "RU:33 SA:24 SC:31 SD:18 SE:24 SI:19 SK:24 SM:27 SO:23 ST:25 SV:28 TL:23 TN:24 TR:26 "
            "UA:29 VA:22 VG:24 XK:20 YE:30"
        )
    )
}


def remainder_97(iban: str) -> int:
    """ISO 7064 mod 97-10 over the rearranged number; 1 where it is right.

    Args:
        iban: capital letters and digits, without spaces.
    """
    return int("".join(str(int(c, 36)) for c in iban[4:] + iban[:4])) % 97


@detector(
    "iban",
    Kind("IBAN", "bank account number (IBAN)", "identifier", "bank account numbers (IBAN)"),
    digits=True,
)
def ibans(document: Document) -> Iterator[Span]:
    """Two letters of a country, two check digits, an account of that country's length."""
    text = document.text
    for match in _START.finditer(text):
        length = LENGTHS.get(match[0][:2].upper())
        rest = length and _REST.match(text, match.end())
        if not length or not rest:
            continue
        # as many letters and digits as the country has: what follows is the next word
        end, count = match.end(), 4
        while end < rest.end() and count < length:
            count += text[end] not in " -"
            end += 1
        if count < length or text[end : end + 1].isalnum():
            continue
        number = text[match.start() : end].replace(" ", "").replace("-", "").upper()
        if number.isascii() and remainder_97(number) == 1:
            yield document.span(
                match.start(), end, "IBAN", 0.99, f"mod-97 checksum, length of {number[:2]}"
            )
        elif "iban" in document.before(match.start(), 30):
            yield document.span(
                match.start(), end, "IBAN", 0.7, f"length of {number[:2]} behind the word IBAN"
            )
