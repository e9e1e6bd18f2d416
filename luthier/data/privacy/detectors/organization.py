"""Companies and institutions, by the words that end or introduce their names."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.privacy.spans import Document, Kind, Span, detector
from luthier.data.privacy.word_lists import CAPITAL, family_names, given_names

_WORD = rf"[{CAPITAL}0-9][\w&'’.-]{{0,30}}+"
_ENDING = (
    r"(?:Inc|LLC|Ltd|Limited|Corp|Corporation|Co|Company|GmbH|AG|KG|S\.?A|S\.?r\.?l|S\.?p\.?A|"
    r"B\.?V|N\.?V|A/S|AB|Oy|Oyj|ASA|PLC|plc|LLP|Pty|Group|Holdings|Partners|Associates|Industries|"
    r"Technologies|Systems|Solutions|Services|Labs|Laboratories|Consulting|Insurance|Capital|"
    r"Ventures|Networks|Software|Airlines|Airways|Bank|University|Institute|College|Hospital|"
    r"Foundation|Association|Agency|Ministry|Committee|Union|Federation|Enterprises|Motors|"
    r"Pharmaceuticals|Electronics|Financial|Analytics|Media|Records|& Sons|and Sons|& Co)"
)
_NAME = re.compile(
    rf"(?<![\w.-])(?:{_WORD},? (?:(?:of|and|the|&|de|für|di) ){{0,2}}){{1,5}}{_ENDING}(?![\w])\.?"
)
_LEADING = re.compile(
    rf"(?<![\w])(?:University|Bank|Institute|Ministry|Department|College|Academy) of "
    rf"(?:the )?{_WORD}(?: {_WORD}){{0,2}}"
)
_INTRODUCED = re.compile(
    rf"\b(?:works? (?:for|at)|worked (?:for|at)|working (?:for|at)|employed (?:by|at)|"
    rf"joined|employer(?: is|:)|company(?: is| name:|:)|CEO of|founder of) "
    rf"({_WORD}(?: {_WORD}){{0,3}})"
)
#: Partners: "Hill, Moore and King".
_PARTNERS = re.compile(rf"(?<![\w])({_WORD}), ({_WORD})(?:, ({_WORD}))?,? (?:and|&) ({_WORD})")
_ARTICLES = re.compile(r"(?:The|A|An|At|In|My|Our|For|From|With|And|By|This|Dear|Hi|If|Is|Was) ")


@detector("organization", Kind("ORGANIZATION", "organisation", "detail"))
def organizations(document: Document) -> Iterator[Span]:
    """ "Smith Ltd.", "University of X", "works for X"."""
    for match in _NAME.finditer(document.text):
        start = match.start()
        while article := _ARTICLES.match(document.text, start, match.end()):
            start = article.end()
        if document.text[start : match.end()].count(" "):
            yield document.span(
                start, match.end(), "ORGANIZATION", 0.86, "ends as an organisation's name"
            )
    for match in _LEADING.finditer(document.text):
        yield document.span(
            match.start(), match.end(), "ORGANIZATION", 0.8, "begins as an institution's name"
        )
    families, given = family_names(), given_names()
    for match in _PARTNERS.finditer(document.text):
        names = [name.rstrip(".") for name in match.groups() if name]
        if all(n in families for n in names) and not all(n in given for n in names):
            end = match.end() - match[0].endswith(".")
            yield document.span(
                match.start(), end, "ORGANIZATION", 0.72, "family names, as of partners"
            )
    for match in _INTRODUCED.finditer(document.text):
        end = match.start(1) + len(match[1].rstrip(".'’-&"))
        if end > match.start(1):
            yield document.span(
                match.start(1), end, "ORGANIZATION", 0.6, "behind what introduces an employer"
            )
