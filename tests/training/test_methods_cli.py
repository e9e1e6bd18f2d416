"""Tuning methods as the command line offers them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from run_samples import luthier


@pytest.fixture
def task(tiny_model: Path, tmp_path: Path) -> Path:
    rows = [{"q": f"count {n}", "a": f"{n} words"} for n in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(json.dumps(row) for row in rows))
    path = tmp_path / "task.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "words",
                "kind": "generation",
                "data": {"train": "rows.jsonl", "input": "{{ q }}", "output": "{{ a }}"},
                "model": str(tiny_model),
                "training": {"epochs": 1, "learning_rate": 1e-2, "precision": "float32"},
            }
        )
    )
    return path


def test_train_says_how_much_was_trained_and_goes_on_from_any_method(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, out, _ = luthier(
        capsys, "train", str(task), "--out", str(tmp_path / "a"), "--method", "ia3"
    )
    assert code == 0
    assert "192 of 27,072 parameters trained (0.71%)" in out
    held = json.loads((tmp_path / "a" / "train.json").read_text())
    assert held["trained_fraction"] == 192 / 27072
    code, out, _ = luthier(
        capsys,
        "train",
        str(task),
        "--out",
        str(tmp_path / "b"),
        "--method",
        "head",
        "--from",
        str(tmp_path / "a"),
        "--json",
    )
    assert code == 0
    assert json.loads(out)["trained_parameters"] == 259 * 32


def test_an_unknown_method_and_an_ignored_key(
    task: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = str(tmp_path / "x")
    code, _, err = luthier(capsys, "train", str(task), "--out", out, "--method", "qlorra")
    assert code == 2
    assert "Did you mean 'qlora'?" in err
    values = yaml.safe_load(task.read_text())
    values["training"]["layers"] = 1
    task.write_text(yaml.safe_dump(values))
    code, _, err = luthier(capsys, "train", str(task), "--out", out, "--method", "dora")
    assert code == 2
    assert "`training.layers` is read by last-layers, and not by dora." in err
