"""Postal addresses: streets of several countries, boxes, postcodes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from luthier.data.privacy.spans import Document, Kind, Span, detector, words
from luthier.data.privacy.word_lists import CAPITAL, ordinary, places, titled

_WORD = rf"[{CAPITAL}][\w'’.-]{{0,30}}+"
_TOWN = rf"(?:St\. )?[{CAPITAL}](?:[^\W\d]|['’-]){{0,30}}+"
_STREET = (
    r"(?:Street|St|Road|Rd|Avenue|Ave|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Place|Pl|Square|Sq|"
    r"Way|Terrace|Ter|Highway|Hwy|Parkway|Pkwy|Circle|Cir|Close|Crescent|Cres|Row|Walk|Trail|Trl|"
    r"Alley|Hill|Hills|Gardens|Grove|Mews|Plaza|Loop|Pike|Run|Path|Bend|Ridge|Point|Greens|Park|"
    r"Turnpike|Freeway|Expressway|Esplanade|Parade|Quay|Wharf|Vale|Views?|Creek|Heights|Manor|"
    r"Crossing|Meadows?|Mall|Landing|Pass|Villages?|Junctions?|Springs?|Harbors?|Isle|Knolls?)"
)
_HOUSE = r"\d{1,6}[A-Za-z]?(?:[-/]\d{1,5})?"
_ENGLISH = re.compile(
    rf"(?<![\w.,$€£-]){_HOUSE},? (?:{_HOUSE} )?(?:[NSEW]{{1,2}}\.? )?"
    rf"(?:(?:{_WORD}|\d{{1,3}}(?:st|nd|rd|th)) ){{1,4}}?{_STREET}(?![\w'’])\.?"
)
_SMALL = (
    r"(?:(?:de|du|des|d|la|le|les|l|del|della|delle|dei|di|da|do|dos|das|el|los|las|den|der)"
    r"[ '’]){0,3}"
)
_PREFIX = re.compile(
    r"(?<![\w.-])(?:rue|avenue|av\.|boulevard|bd|place|chemin|allée|quai|impasse|route|cours|via|"
    r"viale|piazza|corso|vicolo|largo|strada|calle|c/|avenida|avda\.?|paseo|plaza|carrer|camino|rua|"
    r"travessa|praça|ul\.|ulica|al\.|aleja|plac|os\.|bulevardul)\s"
)
_PREFIXED = re.compile(
    rf"{_SMALL}{_TOWN}(?: {_SMALL}{_TOWN}){{0,3}}(?:,? (?:n[°º.]? ?)?({_HOUSE}))?(?![\w])"
)
_HOUSE_BEFORE = re.compile(rf"(?<![\w.-]){_HOUSE}(?: ?(?:bis|ter))?,? $", re.IGNORECASE)
#: How words for a street end, where it is part of the word or stands behind it.
_SUFFIXES = tuple(
    words(
        "straße strasse str str. weg platz gasse allee damm ufer steig stieg straat laan plein "
        "kade gracht dijk singel steenweg gatan vägen väg gränd stigen gata veien vegen vei vej "
        "gade gaten stræde vænget parken allé toften bakken stien götu stræti braut gerði katu "
        "tie tee kuja polku rinne utca út tér körút u. ulica cesta trg námestie náměstí třída "
        "svingen gate"
    )
)
_NUMBER_BEHIND = re.compile(rf"(?<=[^\W\d_]) {_HOUSE}(?![\w])|(?<=\.) {_HOUSE}(?![\w])")
_LAST_WORDS = re.compile(rf"(?:\d{{1,6}} )?({_WORD} )?([^\W\d_][\w'’-]*\.?)$")
_MILITARY = re.compile(
    r"\b(?:(?:PSC|Unit|CMR) \d{1,5},? Box \d{1,5}|US(?:NS|S|NV|CGC) [^\W\d_][\w'’-]{0,30})"
    r"\s{1,3}[AFD]PO,? A[AEP] \d{5}(?:-\d{4})?",
    re.IGNORECASE,
)
_BOX = re.compile(
    r"(?<![\w])(?:P\.? ?O\.? ?Box|Postfach|Apartado|Boîte postale|BP) \d{1,6}(?![\w])"
)
_UNIT = (
    r"(?:Apt|Apartment|Suite|Ste|Unit|Flat|Room|Floor|Fl|App|Box)\.? ?#?\d{1,5}[A-Za-z]?(?![\w])"
)
_LONE_UNIT = re.compile(r"(?<![\w])(?:Apt\.?|Apartment|Suite|Flat) #?\d{1,5}[A-Za-z]?(?![\w])")
_BRITISH = re.compile(r"(?<![\w])[A-Z]{1,2}\d[A-Z\d]? \d[ABD-HJLNP-UW-Z]{2}(?![\w])")
_CANADIAN = re.compile(r"(?<![\w])[ABCEGHJ-NPRSTVXY]\d[A-Z] ?\d[A-Z]\d(?![\w])")
_STATES = words(
    "AL AK AZ AR CA CO CT DE DC FL GA HI ID IL IN IA KS KY LA ME MD MA MI MN MS MO MT NE NV NH NJ "
    "NM NY NC ND OH OK OR PA RI SC SD TN TX UT VT VA WA WV WI WY PR GU VI AA AE AP"
)
_AMERICAN_ZIP = re.compile(r"(?<![\w])([A-Z]{2}),? (\d{5}(?:-\d{4})?)(?![\w]|[.,-]\d)")
_NAMED_ZIP = re.compile(
    r"\b(?:zip|(?:zip|post(?:al)?)[ -]?codes?)(?: is|:| for \w+ is)? {0,3}"
    r"([a-z]{0,2}-?\d{3,6}(?:[ -]\d{2,4})?)(?![\w])"
)
_POSTCODE = re.compile(
    r"(?<=[^\W\d_] )(?:\d{5}(?:-\d{3,4})?|\d{4}-\d{3}|\d{3} \d\d)(?![\w]|[.,-]\d| [^\W\d_A-Z])"
)
_IN_TOWN = re.compile(rf"\b(?:in|from|to|at) {_WORD}(?: {_WORD}){{0,2}},? $")
_GAP = r"(?:,[ \t]{0,4}(?:\n[ \t>?]{0,6})?|[ \t]{1,4}|\.?[ \t]{0,4}\n[ \t>?]{0,6}(?:,[ \t]{0,3})?)"
_CITY = rf"{_TOWN}(?: (?:{_TOWN}|de|la|le|am|an|der|del|do|da|nad|upon)){{0,3}}"
_ZIP = (
    r"(?:[A-Z]{1,2}\d[A-Z\d]? \d[A-Z]{2}(?!\w)"
    r"|(?:[A-Z]{1,2}-?)?\d{4,6}(?:[ -]\d{2,4})?(?![\w]|[.,]\d))"
)
_PIECE = re.compile(rf"{_GAP}(?:(?P<unit>{_UNIT})|(?P<zip>{_ZIP})|(?P<city>{_CITY}))")
#: Pieces that may follow a street: flats, towns, states, postcode, country.
_MOST_PIECES = 9
_SENTENCE_END = re.compile(r"[ \t]*(?:$|[.?!\n\0])")
_CONTEXT = re.compile(
    r"(?:\b(?:address(?: of [\w .&-]{1,40})?(?: is|:| to)|located (?:at|on|in)|"
    r"liv(?:e|es|ed|ing) (?:at|on|in)|"
    r"(?:office|store|shop|house|flat|apartment|clinic)s? (?:is|are) (?:at|on|in)|"
    r"(?:sent|send it|ship(?:ped)?(?: it)?|deliver(?:ed)?(?: it)?|mail(?:ed)?|return(?:ed)?|"
    r"moved?) to|meet(?:ing)? (?:me|you|us|him|her) at|arrived at|"
    r"corner of|residing at|resid(?:e|es) at|based at))\s{1,8}"
)
_SHORT = (
    r"(?:u|ul|utca|út|tér|ulica|gate|gata|gatan|tee|tie|katu|väg|vej|vei|gade|allé|plads|straat|laan|"
    r"nad|pod|str|sv|rkp|de|la|del|af|von|der)\.?"
)
_BEHIND_CONTEXT = re.compile(
    rf"(?:the corner of )?(?:{_HOUSE},? ){{0,2}}"
    rf"(?:{_WORD}(?: (?:{_WORD}|{_SHORT})){{0,4}}? {_HOUSE}(?![\w])|"
    rf"{_WORD}(?: (?:{_WORD}|de|la|of|the|and|der|van)){{0,4}}(?:, ?{_HOUSE}(?![\w]))?)"
)
#: A line of street and number that ends where the number of a flat begins.
_BEFORE_UNIT = re.compile(
    rf"(?<![\w])(?:(?:{_HOUSE},? )?{_WORD}(?: (?:{_WORD}|{_SHORT})){{0,4}}? {_HOUSE}"
    rf"|{_HOUSE},? {_WORD}(?: (?:{_WORD}|{_SHORT})){{0,4}}?)"
    rf"\.?,?[ \t]{{0,3}}(?:\n[ \t>?]{{0,6}})?(?={_UNIT})"
)


_FIRM = re.compile(r"(?:address|office|sent|send|ship|deliver|mail|return|meet|arrived|resid)")
_YEAR = r"(?:1[5-9]|20)\d\d"
_FIRST_YEAR = re.compile(rf"{_YEAR}\b")
_LAST_YEAR = re.compile(rf"(?<!\d){_YEAR}s?$")


@detector(
    "address",
    Kind("ADDRESS", "postal address", "person", "postal addresses"),
    Kind("ZIP_CODE", "postcode", "detail"),
    digits=True,
)
def addresses(document: Document) -> Iterator[Span]:
    """Street and number, with the flat, town and postcode that follow."""
    text, lower = document.text, document.lower
    for match in _ENGLISH.finditer(text):
        span = _whole(document, match.start(), match.end(), 0.88, "number and street")
        if _FIRST_YEAR.match(match[0]) and span.end == match.end():
            if "," in match[0]:
                continue  # "in 1946, Sierra Sky Park ..."
            span = replace(span, confidence=0.55, evidence="street, and a number like a year's")
        yield span
    if "po a" in lower:
        for match in _MILITARY.finditer(text):
            yield _whole(document, match.start(), match.end(), 0.9, "military post")
    for match in _BOX.finditer(text):
        yield _whole(document, match.start(), match.end(), 0.85, "post box")
    yield from _suffixed(document)
    for prefix in _PREFIX.finditer(lower):
        found = _PREFIXED.match(text, prefix.end())
        house = found and _HOUSE_BEFORE.search(text, max(0, prefix.start() - 16), prefix.start())
        if found and (house or found[1]):
            start = house.start() if house else prefix.start()
            yield _whole(document, start, found.end(), 0.87, "street and number")
    for near in _CONTEXT.finditer(lower):
        found = _BEHIND_CONTEXT.match(text, near.end())
        if found and any(c.isdigit() for c in found[0]) and not _LAST_YEAR.search(found[0]):
            sure = 0.86 if _FIRM.match(near[0]) or found[0][0].isdigit() else 0.6
            yield _whole(document, found.start(), found.end(), sure, "behind what introduces it")
    if _LONE_UNIT.search(text):
        for match in _BEFORE_UNIT.finditer(text):
            end = match.start() + len(match[0].rstrip(" \t\n>?,"))
            yield _whole(document, match.start(), end, 0.86, "street above the number of a flat")
    for match in _LONE_UNIT.finditer(text):
        yield document.span(match.start(), match.end(), "ADDRESS", 0.6, "number of a flat")
    yield from _postcodes(document)
    for match in _NAMED_ZIP.finditer(lower):
        yield document.span(match.start(1), match.end(1), "ZIP_CODE", 0.85, "behind its name")


def _suffixed(document: Document) -> Iterator[Span]:
    """ "Lindenstraße 14", "Kossuth utca 3": a word that ends as streets do, and a number."""
    text = document.text
    for match in _NUMBER_BEHIND.finditer(text):
        if not text.endswith(_SUFFIXES, max(0, match.start() - 10), match.start()):
            continue
        words = _LAST_WORDS.search(text, max(0, match.start() - 64), match.start())
        if not words or not (words[1] if words[2] in _SUFFIXES else words[2][0].isupper()):
            continue
        start = words.start() if words[2] in _SUFFIXES or not words[1] else words.start(2)
        yield _whole(document, start, match.end(), 0.85, "street and number")


def _postcodes(document: Document) -> Iterator[Span]:
    text = document.text
    for pattern in (_BRITISH, _CANADIAN):
        for match in pattern.finditer(text):
            yield document.span(match.start(), match.end(), "ZIP_CODE", 0.7, "form of a postcode")
    for match in _AMERICAN_ZIP.finditer(text):
        if match[1] in _STATES:
            yield document.span(
                match.start(2), match.end(), "ZIP_CODE", 0.75, "five digits behind a state"
            )
    for match in _POSTCODE.finditer(text):
        if _IN_TOWN.search(text, max(0, match.start() - 60), match.start()):
            yield document.span(
                match.start(), match.end(), "ZIP_CODE", 0.55, "digits behind a town"
            )


def _whole(document: Document, start: int, end: int, confidence: float, why: str) -> Span:
    """The address with what follows of it."""
    known = places()
    at = end
    for _ in range(_MOST_PIECES):
        piece = _PIECE.match(document.text, at)
        if not piece:
            break
        at = piece.end()
        if piece["unit"] or piece["zip"]:
            end = at
            continue
        city = piece["city"].rstrip(".,")
        at = piece.start("city") + len(city)
        words = city.split()
        if titled(words[0]) in ordinary() or (len(words) == 1 and len(city) > 30):
            break
        gap = piece[0][: piece.start("city") - piece.start()]
        if (
            " ".join(map(titled, words)) in known
            or titled(words[0]) in known
            or ("," in gap and _SENTENCE_END.match(document.text, at))
        ):
            end = at
    return document.span(start, end, "ADDRESS", confidence, why)
