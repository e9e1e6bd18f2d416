"""Two processes come to the weights of one."""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ranks_driver
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from training_fakes import config, load, uneven, uneven_items

from luthier.errors import RunError
from luthier.jobs import train
from luthier.models.adapters import add_lora
from luthier.training.checkpoints import Checkpoints
from luthier.training.loop import fit
from luthier.training.objectives.sft import Sft
from luthier.training.parallel import Ranks, environment, joined, share

DRIVER = Path(__file__).with_name("ranks_driver.py")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


@given(st.lists(st.integers(1, 300), min_size=1, max_size=60), st.integers(1, 9), st.data())
def test_every_row_is_computed_by_one_process_and_all_have_as_much_to_do(
    sizes: list[int], size: int, data: st.DataObject
) -> None:
    rows = data.draw(st.lists(st.integers(0, len(sizes) - 1), unique=True))
    shares = [share(rows, sizes, Ranks(rank, size)) for rank in range(size)]
    assert sorted(row for mine in shares for row in mine) == sorted(rows)
    counts = [len(mine) for mine in shares]
    assert max(counts) - min(counts) <= 1
    if rows:
        work = [sum(sizes[row] for row in mine) for mine in shares]
        assert max(work) - min(work) <= 2 * max(sizes[row] for row in rows)
    assert share(rows, sizes, Ranks()) == rows


@pytest.mark.parametrize(
    ("rank", "size"), [("2", "2"), ("-1", "2"), ("x", "2"), ("0", "0"), ("0", "two")]
)
def test_an_environment_that_makes_no_sense_is_refused(
    monkeypatch: pytest.MonkeyPatch, rank: str, size: str
) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(RunError, match="no place in a group") as error:
        environment()
    assert "torchrun" in error.value.fix


def test_alone_there_is_no_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined() as ranks:
        assert ranks == Ranks(0, 1)
    assert ranks.total(1.5, 2) == [1.5, 2]
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(RunError, match="cannot join the others"), joined():
        pass


@pytest.fixture(scope="module")
def made(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """What one process, and what two came to."""
    out = {size: tmp_path_factory.mktemp(f"ranks{size}") for size in (1, 2)}
    processes = [
        subprocess.Popen(
            [
                *[sys.executable, "-W", "ignore", str(DRIVER), str(rank), "2"],
                *[str(out[2] / "meeting"), str(tiny_model), str(out[2])],
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
        )
        for rank in range(2)
    ]
    ranks_driver.main(0, 1, tiny_model, out[1])
    for process in processes:
        _, said = process.communicate(timeout=240)
        assert process.returncode == 0, said[-3000:]
    return out


def facts(folder: Path, name: str, rank: int = 0) -> dict[str, Any]:
    held: dict[str, Any] = json.loads((folder / f"{name}-{rank}.json").read_text())
    return held


def weights(folder: Path, name: str, rank: int = 0) -> dict[str, torch.Tensor]:
    return load_file(folder / f"{name}-{rank}.safetensors")


class TestTwoAreOne:
    @pytest.mark.parametrize("name", ["full", "lora", "one row", "memory", "stopping"])
    def test_they_come_to_the_same_weights(self, made: dict[int, Path], name: str) -> None:
        one, two = facts(made[1], name), facts(made[2], name)
        assert len(one["curve"]) == len(two["curve"])
        near = 1e-5 if name == "stopping" else 1e-6  # 36 steps at a high rate, down to a small loss
        for (_, a), (_, b) in zip(one["curve"], two["curve"], strict=True):
            assert a == pytest.approx(b, rel=near)
        assert one["tokens"] == two["tokens"]
        assert one["best"] == two["best"]
        for (_, a), (_, b) in zip(one["validation"], two["validation"], strict=True):
            assert a == pytest.approx(b, rel=near)
        wanted, found = weights(made[1], name), weights(made[2], name)
        assert wanted.keys() == found.keys()
        for key, value in wanted.items():
            difference = (found[key] - value).norm() / value.norm()
            # Adam turns rounding of a tiny gradient into a whole step: the norm, not each number
            assert float(difference) < 1e-6, (key, float(difference))

    def test_the_first_step_agrees_to_the_last_bits(self, made: dict[int, Path]) -> None:
        """Before Adam has divided anything by a tiny second moment."""
        for name in ("full", "lora"):
            one, two = (facts(made[size], name)["reports"][0] for size in (1, 2))
            assert one["loss"] == pytest.approx(two["loss"], rel=1e-6)
            assert one["grad_norm"] == pytest.approx(two["grad_norm"], rel=1e-6)

    @pytest.mark.parametrize("name", ["full", "lora", "dropout", "cut", "memory", "stopping"])
    def test_both_hold_the_same(self, made: dict[int, Path], name: str) -> None:
        mine, theirs = weights(made[2], name, 0), weights(made[2], name, 1)
        for key, value in mine.items():
            assert torch.equal(value, theirs[key])

    def test_the_first_reports(self, made: dict[int, Path]) -> None:
        assert len(facts(made[2], "full", 0)["reports"]) == len(facts(made[2], "full")["curve"])
        assert facts(made[2], "full", 1)["reports"] == []

    def test_stopping_early_stopped_early(self, made: dict[int, Path]) -> None:
        assert len(facts(made[2], "stopping")["curve"]) < 48
        assert any("Stopped after step" in note for note in facts(made[2], "stopping")["notes"])

    def test_where_one_is_out_of_memory_both_compute_less_at_once(
        self, made: dict[int, Path]
    ) -> None:
        assert any("Memory ran out at step 1" in n for n in facts(made[2], "memory")["notes"])

    def test_both_say_what_went_wrong(self, made: dict[int, Path]) -> None:
        for rank in (0, 1):
            assert "risen and stays up" in facts(made[2], "diverging", rank)["error"]

    @pytest.mark.parametrize("size", [1, 2])
    def test_interrupted_they_go_on_to_the_same_bits(
        self, made: dict[int, Path], size: int
    ) -> None:
        """Dropout draws other numbers on each process, and each has its own back."""
        whole, again = facts(made[size], "dropout"), facts(made[size], "cut")
        assert any(note.startswith("Continued after step") for note in again["notes"])
        assert again["curve"] == whole["curve"]
        held = weights(made[size], "dropout")
        for key, value in weights(made[size], "cut").items():
            assert torch.equal(value, held[key])

    def test_one_goes_on_with_what_two_left(self, made: dict[int, Path], tiny_model: Path) -> None:
        loaded = load(tiny_model)
        torch.manual_seed(0)
        model = add_lora(loaded.model, rank=4, alpha=8, dropout=0.3, base="tiny")
        done = fit(
            model,
            Sft(),
            uneven_items(loaded.tokenizer, 21),
            config(method="lora", batch_size=6, epochs=3, checkpoint_every=2, micro_tokens=10**6),
            checkpoints=Checkpoints(made[2] / "left", "a"),
        )
        assert any("written by 2 processes" in note for note in done.notes)
        assert done.curve[:2] == [tuple(x) for x in facts(made[2], "dropout")["curve"][:2]]


def test_luthier_train_under_torchrun(tiny_model: Path, tmp_path: Path) -> None:
    """The command line on two processes: one folder, one report, the same model."""
    with (tmp_path / "train.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["question", "answer"])
        table.writerows([e.input, e.output] for e in uneven(60))
    task = {
        "name": "count",
        "kind": "generation",
        "data": {"train": "train.csv", "input": "{{ question }}", "output": "{{ answer }}"},
        "model": str(tiny_model),
        "training": {"epochs": 1, "batch_size": 4, "precision": "float32", "evaluate_every": 4},
    }
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    train(tmp_path, out=tmp_path / "out1")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    done = subprocess.run(
        [
            *[sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"],
            *[f"--master-port={port}", "-m", "luthier.cli", "train", str(tmp_path)],
            *["--out", str(tmp_path / "out2")],
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env=ENVIRONMENT,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("final loss") == 1
    one, two = (json.loads((tmp_path / f"out{size}" / "train.json").read_text()) for size in (1, 2))
    assert one["tokens"] == two["tokens"]
    assert one["final_loss"] == pytest.approx(two["final_loss"], rel=1e-5)
    events = (tmp_path / "out2" / "events.jsonl").read_text().splitlines()
    steps = [json.loads(line) for line in events if '"step"' in line]
    assert [e["step"] for e in steps if e["event"] == "step"] == list(range(1, two["steps"] + 1))
    file = "model/adapter_model.safetensors"
    found, wanted = load_file(tmp_path / "out2" / file), load_file(tmp_path / "out1" / file)
    for key, value in wanted.items():
        assert float((found[key] - value).norm()) <= 1e-5 * float(value.norm())
