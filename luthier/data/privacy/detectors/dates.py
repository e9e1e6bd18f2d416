"""Dates and ages."""

from __future__ import annotations

import re
from collections.abc import Iterator

from luthier.data.privacy.spans import Document, Kind, Span, detector

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|"
    r"sep(?:t(?:ember)?)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)"
)
#: In digits; like everything here in lower case.
DATE = re.compile(
    r"(?<![\w./-])(?:"
    r"(?:19|20)\d\d-[01]\d-[0-3]\d(?:[t ][0-2]\d:[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?)?"
    r"|[0-3]?\d([/.-])[0-3]?\d\1(?:(?:19|20)\d\d|\d\d)"
    r"|(?:19|20)\d\d/[01]?\d/[0-3]?\d"
    r")(?![\w]|[./-]\d)"
)
#: With the name of the month, in English.
WRITTEN_DATE = re.compile(
    rf"(?<![\w./-])(?:[0-3]?\d(?:st|nd|rd|th)? (?:of )?{_MONTH}\.?,? (?:1[89]|20)\d\d"
    rf"|{_MONTH}\.? [0-3]?\d(?:st|nd|rd|th)?,? (?:1[89]|20)\d\d"
    r")(?![\w]|[./-]\d)"
)
_YEAR = re.compile(
    r"\b(?:in|since|of|from|until|born|by|during) ((?:1[89]|20)\d\d)(?![\w]|[.,/-]\d)"
)
_AGE = re.compile(
    r"(?<![\w.,$])(\d{1,3})(?=[ -]?(?:years?|yrs?)[ -](?:old|of age)\b|[ -]?y/?o\b)"
    r"|\b(?:aged|age of|age is|age:|turn(?:ed|ing|s)?|i am|i['’]m|she is|he is|she['’]s|he['’]s)"
    r" {0,3}(\d{1,3})(?![\w%$€£:/-]|[.,]\d| (?:percent|minutes|hours|miles|km|feet|of|out|times|"
    r"points|euros|dollars|degrees|am|pm|a\.m|p\.m))"
)


@detector("dates", Kind("DATE", "date", "detail"), Kind("AGE", "age", "detail"), digits=True)
def dates(document: Document) -> Iterator[Span]:
    """Whole dates, years behind "in" or "since", and ages that are said to be such."""
    for pattern in (DATE, WRITTEN_DATE):
        for match in pattern.finditer(document.lower):
            yield document.span(match.start(), match.end(), "DATE", 0.7, "a date")
    for match in _YEAR.finditer(document.lower):
        yield document.span(
            match.start(1), match.end(1), "DATE", 0.6, "a year behind a preposition"
        )
    for match in _AGE.finditer(document.lower):
        group = 1 if match[1] else 2
        if 0 < int(match[group]) <= 120:
            yield document.span(
                match.start(group), match.end(group), "AGE", 0.75, "a number of years"
            )
