"""Microsoft Presidio's findings as spans of ours, where it is installed and asked for.

Presidio reads English with a spaCy model, which knows names and places that are in no list. What it
would fetch by itself is never fetched: its model must be there, and e-mail and web addresses, for
which it asks the network for a list of domains, are left to our own detectors.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from luthier.data.privacy.spans import Span
from luthier.errors import InputError

#: Presidio's entities as kinds of ours.
KINDS: dict[str, str] = {
    "PERSON": "PERSON",
    "LOCATION": "LOCATION",
    "ORGANIZATION": "ORGANIZATION",
    "NRP": "NATIONALITY",
    "DATE_TIME": "DATE",
    "AGE": "AGE",
    "PHONE_NUMBER": "PHONE",
    "CREDIT_CARD": "CREDIT_CARD",
    "IBAN_CODE": "IBAN",
    "CRYPTO": "CRYPTO_WALLET",
    "IP_ADDRESS": "IP_ADDRESS",
    "MAC_ADDRESS": "MAC_ADDRESS",
    "US_SSN": "US_SSN",
    "US_PASSPORT": "PASSPORT",
    "UK_PASSPORT": "PASSPORT",
    "IN_PASSPORT": "PASSPORT",
    "IT_PASSPORT": "PASSPORT",
    "US_DRIVER_LICENSE": "DRIVER_LICENSE",
    "IT_DRIVER_LICENSE": "DRIVER_LICENSE",
    **dict.fromkeys(
        (
            "US_ITIN", "UK_NHS", "UK_NINO", "ES_NIF", "ES_NIE", "IT_FISCAL_CODE", "PL_PESEL",
            "FI_PERSONAL_IDENTITY_CODE", "AU_TFN", "AU_MEDICARE", "IN_AADHAAR", "IN_PAN",
            "SG_NRIC_FIN", "KR_RRN",
        ),
        "NATIONAL_ID",
    ),
}  # fmt: skip
#: spaCy's English models, the best first.
MODELS = ("en_core_web_trf", "en_core_web_lg", "en_core_web_md", "en_core_web_sm")
#: A model is sure of most of what it says, right or wrong: it never outweighs a checksum or a form.
MOST = 0.8
#: spaCy refuses texts of a million characters; pieces are cut between words.
_PIECE = 50_000
_LONGEST_WORD = 1_000
_SURROGATES = re.compile("[\ud800-\udfff]")


def presidio_spans(text: str) -> Iterator[Span]:
    """What Presidio finds in an English text, in the kinds of ours.

    Raises:
        InputError: Presidio or a spaCy model for English is not installed.
    """
    engine, entities = _engine()
    readable = _SURROGATES.sub("?", text)
    for start, end in _pieces(readable):
        for found in engine.analyze(text=readable[start:end], language="en", entities=entities):
            low, high = start + found.start, start + found.end
            # a span is of at least one letter or digit, without the spaces around it
            while low < high and text[low].isspace():
                low += 1
            while high > low and text[high - 1].isspace():
                high -= 1
            if low == high:
                continue
            confidence = min(MOST, float(found.score))
            evidence = f"Presidio: {found.entity_type}"
            yield Span(low, high, KINDS[found.entity_type], text[low:high], confidence, evidence)


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    """(start, end) of pieces that are short enough, cut at white space where there is some."""
    start = 0
    while start < len(text):
        end = min(len(text), start + _PIECE)
        if end < len(text):
            for at in range(end, end - _LONGEST_WORD, -1):
                if text[at].isspace():
                    end = at
                    break
        yield start, end
        start = end


def _installed(model: str) -> bool:
    # as spaCy asks, so that Presidio, which fetches what spaCy does not know, fetches nothing
    try:
        importlib.metadata.distribution(model)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


@lru_cache(maxsize=1)
def _engine() -> tuple[Any, list[str]]:
    """The analyser, loaded once, and those of its entities that are kinds of ours."""
    try:
        from presidio_analyzer import AnalyzerEngine
        from presidio_analyzer.nlp_engine import NlpEngineProvider
    except ImportError as error:
        raise InputError(
            f"Presidio was asked for and cannot be used: {error}.",
            fix="pip install 'luthier[presidio]'",
        ) from None
    model = next(filter(_installed, MODELS), None)
    if model is None:
        raise InputError(
            "Presidio was asked for, and spaCy's English model that it reads with is missing.",
            fix=f"python -m spacy download {MODELS[1]}",
        )
    provider = NlpEngineProvider(
        nlp_configuration={
            "nlp_engine_name": "spacy",
            "models": [{"lang_code": "en", "model_name": model}],
        }
    )
    engine = AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=["en"])
    known = engine.get_supported_entities(language="en")
    return engine, sorted(KINDS.keys() & set(known))
