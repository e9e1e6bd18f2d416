"""National identity and tax numbers of people, by their checksums (python-stdnum)."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from functools import lru_cache

from luthier.data.privacy.spans import Document, Kind, Span, detector

# (stdnum module, form, words one of which must stand before it; "" where the checksum suffices)
_NUMBERS: tuple[tuple[str, str, str], ...] = (
    ("it.codicefiscale", r"[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z]", ""),
    ("mx.curp", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d", ""),
    ("fi.hetu", r"\d{6}[-+A]\d{3}[0-9A-Y]", ""),
    ("es.dni", r"\d{8}-?[A-Z]", "dni|nif|identi|documento"),
    ("es.nie", r"[XYZ]-?\d{7}-?[A-Z]", ""),
    ("fr.nir", r"[12] ?\d\d ?[01]\d ?\d[\dAB] ?\d{3} ?\d{3} ?\d\d", ""),
    ("cn.ric", r"[1-8]\d{5}(?:19|20)\d{9}[\dX]", ""),
    ("kr.rrn", r"\d{6}-[1-8]\d{6}", ""),
    ("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d\d", ""),
    ("br.cpf", r"\d{11}", "cpf"),
    ("cl.rut", r"\d{1,2}\.\d{3}\.\d{3}-[\dKk]", ""),
    ("se.personnummer", r"(?:19|20)?\d{6}[-+]\d{4}", ""),
    ("dk.cpr", r"\d{6}-\d{4}", "cpr|personnummer"),
    ("no.fodselsnummer", r"\d{6} ?\d{5}", "fødselsnummer|fodselsnummer|national id"),
    ("pl.pesel", r"\d{11}", "pesel"),
    ("nl.bsn", r"\d{9}|\d{4}\.\d\d\.\d{3}", "bsn|burgerservice|sofi"),
    (
        "be.nn",
        r"\d\d\.?\d\d\.?\d\d-?\d{3}\.?\d\d",
        "rijksregister|registre national|national id|national number",
    ),
    ("de.idnr", r"\d{2} ?\d{3} ?\d{3} ?\d{3}", "steuer|idnr|identifikationsnummer|tax id"),
    ("pt.nif", r"\d{9}", "nif|contribuinte"),
    ("ro.cnp", r"[1-9]\d{12}", "cnp|cod numeric"),
    ("bg.egn", r"\d{10}", "egn|егн"),
    ("cz.rc", r"\d{6}/\d{3,4}", "rodné|rodne|rc|birth number"),
    ("tr.tckimlik", r"[1-9]\d{10}", "kimlik|tckn|turkish id"),
    ("in_.aadhaar", r"[2-9]\d{3} ?\d{4} ?\d{4}", "aadhaar|aadhar|आधार|uidai"),
    ("in_.pan", r"[A-Z]{3}[ABCFGHLJPT][A-Z]\d{4}[A-Z]", "pan|permanent account"),
    ("ca.sin", r"\d{3}([ -])\d{3}\1\d{3}|\d{9}", "sin|social insurance"),
    ("au.tfn", r"\d{3} ?\d{3} ?\d{2,3}", "tfn|tax file"),
    ("za.idnr", r"\d{13}", "id|identity"),
    ("gb.nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", "nhs"),
    ("ch.ssn", r"756\.\d{4}\.\d{4}\.\d\d", ""),
    ("at.vnr", r"\d{4} ?\d{6}", "sozialversicherung|svnr|versicherungsnummer"),
)  # fmt: skip
_PLAIN = tuple((name, re.compile(form)) for name, form, context in _NUMBERS if not context)
_NAMED = tuple(
    (name, re.compile(rf"(?<![\w.-])(?:{form})(?![\w]|[.-]\d)"), tuple(words.split("|")))
    for name, form, words in _NUMBERS
    if words
)
#: Names this short must stand alone: "using" is no SIN.
_SHORT = 4
# what may be one of the plain ones: then each form is tried on it alone
_CANDIDATE = re.compile(r"(?<![\w.-])[\dA-Z][\dA-Z.+-]{8,19}(?![\w]|[.-]\d)")
_REACH = 60
# Britain's has no checksum: letters that are not used make it tell-tale all the same
_NINO = re.compile(
    r"(?<![\w-])(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]"
    r" ?\d\d ?\d\d ?\d\d ?[A-D](?![\w-])"
)


@lru_cache(maxsize=50_000)
def _valid(module: str, number: str) -> bool:
    try:
        return bool(importlib.import_module(f"stdnum.{module}").is_valid(number))
    except Exception:  # a validator stumbles over what is no number of its kind
        return False


@detector("national_id", Kind("NATIONAL_ID", "national identity number", "identifier"), digits=True)
def national_ids(document: Document) -> Iterator[Span]:
    """Numbers of some thirty countries with a right checksum, near their name where plain."""
    text = document.text
    for match in _CANDIDATE.finditer(text):
        if sum(c.isdigit() for c in match[0]) < 5 or len(set(match[0])) < 4:
            continue
        for name, form in _PLAIN:
            if form.fullmatch(match[0]) and _valid(name, match[0]):
                yield document.span(match.start(), match.end(), "NATIONAL_ID", 0.9, _why(name))
                break
    for name, pattern, words in _NAMED:
        for behind in _behind(document, words):
            reach = behind + len(document.after(behind, _REACH))
            for match in pattern.finditer(text, behind, min(len(text), reach + 24)):
                if match.start() <= reach and len(set(match[0])) > 3 and _valid(name, match[0]):
                    yield document.span(match.start(), match.end(), "NATIONAL_ID", 0.95, _why(name))
    for match in _NINO.finditer(text):
        if "insurance" in document.before(match.start(), 60) or " " in match[0]:
            yield document.span(
                match.start(), match.end(), "NATIONAL_ID", 0.85, "form of a UK insurance number"
            )


def _behind(document: Document, words: tuple[str, ...]) -> Iterator[int]:
    """The places behind the words that name a number."""
    lower = document.lower
    for word in words:
        at = lower.find(word)
        while at >= 0:
            end = at + len(word)
            alone = not (lower[at - 1 : at].isalnum() or lower[end : end + 1].isalnum())
            if alone or len(word) > _SHORT:
                yield end
            at = lower.find(word, end)


def _why(name: str) -> str:
    country, _, number = name.partition(".")
    return f"checksum of {number.upper()} ({country[:2].upper()})"
