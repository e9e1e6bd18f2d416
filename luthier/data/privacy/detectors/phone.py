"""Telephone numbers: numbering plans (Google's libphonenumber) and what stands before them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from luthier.data.privacy.spans import Document, Kind, Span, detector

_NUMBER = re.compile(
    r"(?<![\w.,:/+$€£#-])(?:\+|\((?=\d))?\d(?:[ .()/-]{0,3}\d){5,15}"
    r"(?: ?(?:x|ext\.? ?)\d{1,6})?(?![\w%]|[.,:/-]\d)",
    re.IGNORECASE,
)
_CONTEXT = re.compile(
    r"\b(?:tele)?phones?\b|\bcall(?:ed|ing)?(?: me| us| him| her| back)?\b|\btel\b|\bmobile|\bcell|"
    r"\bfax|\bwhats ?app|\bdial|\bsms\b|\btext (?:me|us|him|her|to)|\b(?:contact|reach)(?:ed)?\b|"
    r"\b(?:ring|my number|phone number|number is|hotline|handy|telefon|"
    r"tel[eé]fono|t[eé]l[eé]phone|portable|celular|cellulare|numer|nummer|puhelin)\b|☎|📞|📱"
)
#: Just before a number: it counts or names something else.
_OTHER = re.compile(
    r"(?:\b(?:isbn|issn|doi|order|invoice|ticket|case|account|acct|card|id|ssn|iban|zip|code|sku|"
    r"item|model|part|version|page|pages|pp|year|years|between|from|score|ratio|route|flight|"
    r"serial|tracking|reference|ref|patent|number of|total|sum|passport|licen[cs]e|vin)"
    r"(?: (?:number|no|nr|num|is))?|[$€£¥#=*^×<>])[\s.:#]{0,3}$"
)
_DATE = re.compile(r"(?:\d{1,2}([./ -])\d{1,2}\1(?:\d{4}|\d{2})|\d{4}([./ -])\d{1,2}\2\d{1,2})")
_YEARS = re.compile(r"(?:1[5-9]|20)\d\d(?:[ ./()-]{1,3}(?:1[5-9]|20)\d\d)+$")
_AMERICAN = re.compile(r"(?:\+?1[ .-])?(?:\(\d{3}\) ?|\d{3}[.-])\d{3}[.-]\d{4}")
#: Regions whose plans a number without a country code is held to.
REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "NL", "SE", "PL", "IN", "AU", "BR")
#: 555-0100 to 555-0199 are kept for fiction (North American Numbering Plan Administration).
_FICTION = re.compile(r"555[ .-]?01\d\d(?:\D|$)|555[ )./-]{1,2}(?:555|123)[ .-]?\d{4}(?:\D|$)")
_TOLL_FREE = re.compile(
    r"\+?1?[ .(-]{0,2}8(?:00|33|44|55|66|77|88)[ .)-]{1,2}\d{3}[ .-]?\d{4}(?:\D|$)"
)


@lru_cache(maxsize=50_000)
def _plan(number: str) -> str:
    """ "valid" in its country's plan, "possible" by its length, or "" for neither."""
    import phonenumbers

    try:
        parsed = phonenumbers.parse(number, None)
    except phonenumbers.NumberParseException:
        return ""
    if phonenumbers.is_valid_number(parsed):
        return "valid"
    return "possible" if phonenumbers.is_possible_number(parsed) else ""


@lru_cache(maxsize=50_000)
def _region(number: str) -> str:
    """The first region in whose plan a number without a country code is valid, or ""."""
    import phonenumbers

    for region in REGIONS:
        try:
            if phonenumbers.is_valid_number(phonenumbers.parse(number, region)):
                return region
        except phonenumbers.NumberParseException:
            continue
    return ""


@detector("phone", Kind("PHONE", "phone number", "identifier"), digits=True)
def phones(document: Document) -> Iterator[Span]:
    """Numbers with a country code; American forms; any plausible number behind a fitting word."""
    for match in _NUMBER.finditer(document.text):
        number = match[0].rstrip(" .(/-")
        core = re.split(r"[xXeE]", number)[0]
        digits = re.sub(r"\D", "", core)
        if not 6 <= len(digits) <= 15 or len(set(digits)) < 3:
            continue
        if (core.count("(") != core.count(")")) or "((" in core:
            if core.startswith("(") or "(" not in core:
                number, core = number.lstrip("("), core.lstrip("(")
            if core.count("(") != core.count(")"):
                continue
        start = match.start() + (match[0].startswith("(") and not number.startswith("("))
        if _DATE.fullmatch(core) or _YEARS.match(core):
            continue
        near = document.before(start, 50)
        context = None
        for context in _CONTEXT.finditer(near):  # noqa: B007 the last one counts
            pass
        found = _judge(core, digits, context and context[0], near)
        if found:
            end = start + len(number)
            if _FICTION.search(core):
                found = (min(found[0], 0.6), "number kept for fiction or examples")
            elif _TOLL_FREE.match(core):
                found = (min(found[0], 0.6), "toll-free number, hardly a person's")
            yield document.span(start, end, "PHONE", *found)


def _judge(core: str, digits: str, context: str | None, near: str) -> tuple[float, str] | None:
    """(confidence, evidence) of a candidate, or None."""
    if core.startswith("+") or (digits.startswith("00") and len(digits) >= 10):
        plan = _plan(core if core.startswith("+") else f"+{digits[2:]}")
        if plan == "valid" or (plan and context):
            return 0.95, f"country code, {plan} in its numbering plan"
        return (0.75, "country code") if context else (0.55, "looks like a country code")
    if _OTHER.search(near):
        return None
    if len(digits) > 11 and core.isdigit():
        return None  # an identifier of something
    if context and len(digits) >= 7:
        region = _region(core) if len(digits) >= 8 else ""
        if region:
            return 0.85, f"valid in {region}, behind {context!r}"
        return 0.7, f"{len(digits)} digits behind {context!r}"
    if _AMERICAN.fullmatch(core):
        valid = _plan(f"+1{digits[-10:]}") == "valid"
        return (0.75, "valid American number") if valid else (0.6, "form of an American number")
    # in groups, with the leading zero of a national number
    if digits.startswith("0") and 9 <= len(digits) <= 11 and " " in core:
        region = _region(core)
        if region:
            return 0.6, f"national form, valid in {region}"
    return None
