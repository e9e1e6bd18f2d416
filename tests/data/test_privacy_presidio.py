"""Presidio beside our own detectors, with a stand-in for its modules."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from luthier.data.privacy import find, kinds, presidio
from luthier.errors import InputError


class _Found:
    def __init__(self, entity_type: str, start: int, end: int, score: float) -> None:
        self.entity_type, self.start, self.end, self.score = entity_type, start, end, score


class _Engine:
    """Finds "Zzyzx" as a person and "Qaanaaq " as a place; says what it was asked."""

    asked: list[tuple[str, list[str]]]

    def __init__(self, nlp_engine: Any, supported_languages: list[str]) -> None:
        assert nlp_engine == "en_core_web_sm" and supported_languages == ["en"]
        _Engine.asked = []

    def get_supported_entities(self, language: str) -> list[str]:
        return ["PERSON", "LOCATION", "EMAIL_ADDRESS", "URL", "US_BANK_NUMBER"]

    def analyze(self, text: str, language: str, entities: list[str]) -> list[_Found]:
        text.encode()
        _Engine.asked.append((text, entities))
        found = []
        for kind, word, score in (("PERSON", "Zzyzx", 1.0), ("LOCATION", "Qaanaaq ", 0.6)):
            at = text.find(word)
            if at >= 0:
                found.append(_Found(kind, at, at + len(word), score))
        return found


class _Provider:
    def __init__(self, nlp_configuration: dict[str, Any]) -> None:
        self.model = nlp_configuration["models"][0]["model_name"]

    def create_engine(self) -> str:
        return str(self.model)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    analyzer, engines = types.ModuleType("presidio_analyzer"), types.ModuleType("nlp_engine")
    analyzer.AnalyzerEngine = _Engine  # type: ignore[attr-defined]
    engines.NlpEngineProvider = _Provider  # type: ignore[attr-defined]
    model = tmp_path / "en_core_web_sm-3.8.0.dist-info" / "METADATA"
    model.parent.mkdir()
    model.write_text("Metadata-Version: 2.1\nName: en_core_web_sm\nVersion: 3.8.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "presidio_analyzer", analyzer)
    monkeypatch.setitem(sys.modules, "presidio_analyzer.nlp_engine", engines)
    presidio._engine.cache_clear()
    yield
    presidio._engine.cache_clear()


@pytest.mark.usefixtures("stand_in")
def test_its_findings_join_ours() -> None:
    text = "\ud800 Zzyzx of Qaanaaq wrote to anna@firma.se"
    spans = find(text, presidio=True)
    assert [(s.type, s.text, s.confidence) for s in spans] == [
        ("PERSON", "Zzyzx", 0.8), ("LOCATION", "Qaanaaq", 0.6), ("EMAIL", "anna@firma.se", 0.95),
    ]  # fmt: skip
    assert all(text[s.start : s.end] == s.text for s in spans)
    assert spans[0].evidence == "Presidio: PERSON"
    # what it would ask the network about, and what is no kind of ours, it is not asked for
    assert _Engine.asked[0][1] == ["LOCATION", "PERSON"]
    assert find(text, presidio=True, types=["PERSON"]) == spans[:1]
    assert find(text) == spans[2:]


def test_what_it_finds_are_kinds_of_ours() -> None:
    assert set(presidio.KINDS.values()) <= kinds().keys()


@pytest.mark.usefixtures("stand_in")
def test_long_texts_are_given_in_pieces() -> None:
    text = "word " * 30_000 + "Zzyzx"
    (span,) = find(text, presidio=True)
    assert text[span.start : span.end] == "Zzyzx"
    assert "".join(piece for piece, _ in _Engine.asked) == text
    assert max(len(piece) for piece, _ in _Engine.asked) <= 50_000


@pytest.mark.usefixtures("stand_in")
def test_a_model_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(presidio, "MODELS", ("no_such_model", "nor_this_one"))
    with pytest.raises(InputError, match="English model") as error:
        find("Zzyzx", presidio=True)
    assert error.value.fix == "python -m spacy download nor_this_one"


def test_presidio_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    presidio._engine.cache_clear()
    monkeypatch.setitem(sys.modules, "presidio_analyzer", None)
    with pytest.raises(InputError, match="Presidio was asked for") as error:
        find("Zzyzx", presidio=True)
    assert error.value.fix == "pip install 'luthier[presidio]'"
