"""One of several processes that train together: `ranks_driver.py RANK SIZE STORE MODEL OUT`.

Runs every scenario below and writes OUT/SCENARIO-RANK.safetensors and .json. With SIZE 1 there is
no group.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from training_fakes import config, items, load, uneven_items

from luthier.models.adapters import add_lora
from luthier.training.checkpoints import Checkpoints
from luthier.training.loop import StepReport, TrainingError, fit
from luthier.training.objectives.sft import Item, Sft


class Small:
    """Memory for some padded tokens, on the second process alone where there are two."""

    def __init__(self, tokens: int, short: bool) -> None:
        self.tokens, self.short = tokens, short
        self.inner = Sft()

    def sizes(self, found: Any) -> list[int]:
        return self.inner.sizes(found)

    def loss(self, model: Any, found: Any) -> torch.Tensor:
        if self.short and len(found) * max(item.length for item in found) > self.tokens:
            raise RuntimeError("can't allocate memory")
        return self.inner.loss(model, found)


def main(rank: int, size: int, model: Path, out: Path) -> None:
    tokenizer = load(model).tokenizer
    rows = uneven_items(tokenizer, 21)

    def run(
        name: str,
        *,
        method: str = "full",
        dropout: float = 0.0,
        objective: Any = None,
        store: Checkpoints | None = None,
        stop: int | None = None,
        **values: Any,
    ) -> None:
        held = load(model).model
        if method == "lora":
            # what differs at the start is put right
            torch.manual_seed(rank)
            held = add_lora(held, rank=4, alpha=8, dropout=dropout, base="tiny")
        seen: list[StepReport] = []

        def heard(step: StepReport) -> None:
            seen.append(step)

        # all processes stop, as torchrun stops them when one has gone
        sizes = objective or Sft()
        loss, calls = sizes.loss, 0

        def counted(*args: Any) -> torch.Tensor:
            nonlocal calls
            calls += 1
            if stop is not None and calls > stop:
                raise KeyboardInterrupt
            return loss(*args)  # type: ignore[no-any-return]

        sizes.loss = counted
        validation = values.pop("validation", ())
        try:
            done = fit(
                held,
                sizes,
                values.pop("rows", rows),
                config(method=method, batch_size=6, **{"epochs": 3, **values}),
                checkpoints=store,
                report=heard,
                validation=validation,
            )
        except KeyboardInterrupt:
            return
        except TrainingError as error:
            (out / f"{name}-{rank}.json").write_text(json.dumps({"error": str(error)}))
            return
        save_file(done.weights, out / f"{name}-{rank}.safetensors")
        facts = {
            "curve": done.curve,
            "tokens": done.tokens,
            "notes": done.notes,
            "validation": done.validation,
            "best": done.best_step,
            "reports": [asdict(one) for one in seen],
        }
        (out / f"{name}-{rank}.json").write_text(json.dumps(facts))

    run("full", micro_tokens=150, weight_decay=0.1, learning_rate=1e-3)
    # steps of three rows leave nothing for some processes to do with some of them
    run("lora", method="lora", micro_tokens=10**6, learning_rate=5e-3)
    single = Item([5, 6, 7, 8], [-100, -100, 8, 9])
    run("one row", rows=[single], epochs=4, learning_rate=1e-3)
    small = Small(max(row.length for row in rows) * 3 // 2, rank == size - 1)
    run("memory", objective=small, micro_tokens=4000, learning_rate=1e-3)
    other = items(tokenizer, 7, seed=4)
    run("stopping", validation=other, patience=2, evaluate_every=2, learning_rate=1e-2, epochs=12)
    run("diverging", learning_rate=10.0, epochs=20)
    settings = {"method": "lora", "dropout": 0.3, "checkpoint_every": 2, "micro_tokens": 10**6}
    run("dropout", **settings)
    run("cut", store=Checkpoints(out / "c", "a"), stop=8, **settings)
    run("cut", store=Checkpoints(out / "c", "a"), **settings)
    if size > 1:
        run("left", store=Checkpoints(out / "left", "a"), stop=8, **settings)


if __name__ == "__main__":
    place, count, meeting, folder, target = sys.argv[1:]
    torch.set_num_threads(1)
    if int(count) > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{meeting}", rank=int(place), world_size=int(count)
        )
    main(int(place), int(count), Path(folder), Path(target))
    if int(count) > 1:
        dist.destroy_process_group()
