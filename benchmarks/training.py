"""Speed and memory of training, against TRL's SFTTrainer in the same run.

    python benchmarks/training.py DATA [--rows 96] [--only lora-all,full-all] [--skip-peer]

DATA is a folder with instructions/alpaca_5000.json. Both sides train the embedded model on the same
chat examples (mean about 120 tokens, one in ten above 230), with the same adapter, the same batch
size and the same number of optimiser steps, each in a process of its own, one after the other. TRL
runs in the best configuration found: bfloat16 with examples grouped by length. Run it alone on the
machine. Prints tokens a second, peak memory, the ratios, and the fraction of the floor: tokens a
second times operations a token, over the rate of bfloat16 matrix products. That rate is measured
again between all optimiser steps, because a shared machine is not always equally fast; the fraction
is the median over the steps, the first one left out.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MODEL = "smollm2-135m-instruct"
BATCH = 8
RANK = 16
#: tokens above which an example counts as long; one in ten is
LONG = 230


@dataclass(frozen=True)
class Case:
    """What is compared."""

    method: str
    loss_on: str

    @property
    def name(self) -> str:
        """As --only takes it."""
        return f"{self.method}-{self.loss_on}"


CASES = (
    Case("lora", "all"),
    Case("lora", "completion"),
    Case("full", "all"),
)


def taught(data: Path, rows: int, loss_on: str) -> list[Any]:
    """Rendered chat examples: nine ordinary ones, then a long one, in the order of the file."""
    from luthier.data.examples import Message
    from luthier.models.loading import load_tokenizer
    from luthier.prompts.prompt import Prompt

    prompt = Prompt(load_tokenizer(MODEL))
    short: list[Any] = []
    long: list[Any] = []
    stored = json.loads((data / "instructions" / "alpaca_5000.json").read_text(encoding="utf-8"))
    for row in stored:
        asked = "\n".join(part for part in (row["instruction"], row["input"]) if part)
        one = prompt.teach((Message("user", asked),), row["output"], loss_on=loss_on)
        (long if len(one.ids) > LONG else short).append(one)
        if len(long) >= rows / 10 and len(short) >= rows:
            break
    mixed = []
    for index in range(rows):
        mixed.append((long if index % 10 == 9 else short).pop(0))
    return mixed


def peak_bytes() -> int:
    """The largest resident set this process had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_luthier(case: Case, data: Path, rows: int, began: float) -> dict[str, Any]:
    import torch

    from luthier.models.loading import describe, load_causal
    from luthier.task_training import Training
    from luthier.training.config import decide
    from luthier.training.loop import fit
    from luthier.training.method import METHODS
    from luthier.training.objectives.sft import Sft

    info = describe(MODEL)
    config = decide(
        Training(epochs=1, batch_size=BATCH, rank=RANK, loss_on=case.loss_on),
        method=case.method,
        examples=rows,
        hidden_size=info.hidden_size,
        context_length=info.context_length,
        bfloat16=True,
        seed=0,
    )
    model = load_causal(MODEL, torch.bfloat16, attention="eager").model
    objective = Sft()
    items = [objective.item(one) for one in taught(data, rows, case.loss_on)]
    model = METHODS.get(case.method)().prepare(model, config, base=MODEL)
    scored = sum(item.weight for item in items) / sum(item.length for item in items)
    flops = plain_flops(info, case.method, scored)
    floor = Floor(flops)
    ready = time.time()
    # all of `fit`, joining weights and making the optimiser's state included
    done = fit(model, objective, items, config, report=floor.step)
    return {
        "tokens": done.tokens,
        "seconds": time.time() - ready - floor.spent,
        "floor": statistics.median(floor.fractions[1:]),
        "products": statistics.median(floor.rates),
        "startup": ready - began,
        "peak": peak_bytes(),
        "first_loss": done.curve[0][1],
        "last_loss": done.final_loss,
    }


class Floor:
    """How near the steps come to the rate of matrix products alone.

    Args:
        flops: operations a token.
    """

    def __init__(self, flops: float) -> None:
        self.flops = flops
        self.fractions: list[float] = []
        self.rates = [product_rate()]
        self.spent = 0.0
        self._tokens, self._since = 0, time.perf_counter()

    def step(self, report: Any) -> None:
        """After every optimiser step."""
        ended = time.perf_counter()
        self.rates.append(product_rate())
        speed = (report.tokens - self._tokens) / (ended - self._since)
        self.fractions.append(speed * self.flops / statistics.mean(self.rates[-2:]))
        self._tokens, self._since = report.tokens, time.perf_counter()
        self.spent += self._since - ended


def product_rate(seconds: float = 0.12) -> float:
    """Operations a second of bfloat16 matrix products, sustained."""
    import torch

    a = torch.ones(1024, 576, dtype=torch.bfloat16)
    b = torch.ones(1536, 576, dtype=torch.bfloat16)
    products, began = 0, time.perf_counter()
    while (spent := time.perf_counter() - began) < seconds:
        for _ in range(5):
            torch.nn.functional.linear(a, b)
        products += 5
    return products * 2 * 1024 * 576 * 1536 / spent


def plain_flops(info: Any, method: str, scored: float) -> float:
    """Operations a token in matrix products with the model's own weights alone: 2 forward, 2 back
    to the inputs, and 2 for a trained weight's gradient."""
    passes = 6 if method == "full" else 4
    return float(passes * (info.body_parameters + scored * info.embedding_parameters))


def run_trl(case: Case, data: Path, rows: int, began: float) -> dict[str, Any]:
    import tempfile

    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    from luthier.models.loading import load_tokenizer, resolve

    conversations = taught(data, rows, case.loss_on)
    dataset = Dataset.from_list(
        [
            {
                "input_ids": one.ids,
                "labels": [
                    token if trained else -100
                    for token, trained in zip(one.ids, one.trained, strict=True)
                ],
            }
            for one in conversations
        ]
    )
    clock: dict[str, float] = {}

    class Clock(TrainerCallback):
        def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
            clock.setdefault("first", time.time())

        def on_train_end(self, *args: Any, **kwargs: Any) -> None:
            clock["last"] = time.time()

    model = AutoModelForCausalLM.from_pretrained(resolve(MODEL).path, dtype=torch.float32)
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            processing_class=load_tokenizer(MODEL),
            train_dataset=dataset,
            peft_config=lora if case.method == "lora" else None,
            callbacks=[Clock()],
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=BATCH,
                num_train_epochs=1,
                learning_rate=1e-3 if case.method == "lora" else 1e-4,
                warmup_steps=2,
                bf16=True,
                use_cpu=True,
                train_sampling_strategy="group_by_length",
                gradient_checkpointing=False,
                max_length=None,
                report_to=[],
                save_strategy="no",
                logging_steps=1,
                disable_tqdm=True,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
        )
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "tokens": sum(len(one.ids) - 1 for one in conversations),
        "seconds": clock["last"] - clock["first"],
        "startup": clock["first"] - began,
        "peak": peak_bytes(),
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }


def measured(side: str, case: Case, data: Path, rows: int) -> dict[str, Any]:
    """Run one side in a process of its own."""
    command = [
        *(sys.executable, __file__, str(data), "--worker", side, "--only", case.name),
        *("--rows", str(rows), "--began", str(time.time())),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side} {case.name} failed:\n{done.stderr[-3000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    result["rate"] = result["tokens"] / result["seconds"]
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--only", default=",".join(case.name for case in CASES))
    parser.add_argument("--skip-peer", action="store_true", help="measure Luthier alone")
    parser.add_argument("--worker", choices=["luthier", "trl"], help=argparse.SUPPRESS)
    parser.add_argument("--began", type=float, default=0.0, help=argparse.SUPPRESS)
    given = parser.parse_args()
    cases = [case for case in CASES if case.name in given.only.split(",")]
    if given.worker:
        work = run_luthier if given.worker == "luthier" else run_trl
        print(json.dumps(work(cases[0], given.data, given.rows, given.began)))
        return

    head = ("", "tokens/s", "peak GB", "start-up s", "first loss", "last loss", "of the floor")
    print(("{:24}" + "{:>13}" * 6).format(*head))
    for case in cases:
        ours = measured("luthier", case, given.data, given.rows)
        show("luthier " + case.name, ours, f"{ours['floor']:.2f}")
        if given.skip_peer:
            continue
        theirs = measured("trl", case, given.data, given.rows)
        show("trl " + case.name, theirs, "")
        print(
            f"  bfloat16 products {ours['products'] / 1e9:.0f} GFLOP/s; "
            f"{case.name}: {ours['rate'] / theirs['rate']:.1f}x the tokens a second, "
            f"{ours['peak'] / theirs['peak']:.2f}x the peak memory"
        )


def show(name: str, result: dict[str, Any], fraction: str) -> None:
    print(
        f"{name:24}{result['rate']:13.0f}{result['peak'] / 1e9:13.2f}{result['startup']:13.1f}"
        f"{result['first_loss']:13.3f}{result['last_loss']:13.3f}{fraction:>13}",
        flush=True,
    )


if __name__ == "__main__":
    main()
