"""Speed and memory of training on a GPU, against TRL's SFTTrainer, plain and with Liger's kernels.

    python benchmarks/training_gpu.py [--only 1b-lora,1b-full,8b-lora] [--sides luthier,trl,liger]

Models have random weights in the shapes of Llama 3.2 1B and Llama 3.1 8B, in bfloat16. Rows are
random ids of the lengths that chat examples have (log-normal, mean about 120 tokens, one in ten
above 230), every token trained, 32 rows a step, the same rows on all sides. Each side runs in a
process of its own. TRL groups rows by length and computes in bfloat16; where weights are trained
whole it runs twice, on bfloat16 weights (fast, and small updates are rounded away) and on float32
weights under autocast. Luthier trains bfloat16 weights with float32 masters.

Tokens a second are those of the steps after the first four, which compile and warm up. The fraction
is tokens a second times operations a token, over the rate of large matrix products measured on the
same device.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from typing import Any

BATCH = 32
RANK = 16
WARM = 4
VOCABULARY = 128_256


@dataclass(frozen=True)
class Shape:
    """Of a Llama model."""

    hidden: int
    inner: int
    layers: int
    heads: int
    tied: bool


SHAPES = {
    "tiny": Shape(256, 512, 2, 4, True),
    "1b": Shape(2048, 8192, 16, 32, True),
    "8b": Shape(4096, 14336, 32, 32, False),
}
CASES = ("1b-lora", "1b-full", "8b-lora")
SIDES = ("luthier", "trl", "liger", "trl-float32", "liger-float32")


def rows_of(count: int) -> list[list[int]]:
    """Random ids, of natural lengths."""
    source = random.Random("rows")
    lengths = [
        min(1024, max(16, round(math.exp(source.gauss(4.543, 0.698))))) for _ in range(count)
    ]
    return [[source.randrange(VOCABULARY) for _ in range(length)] for length in lengths]


def model_of(shape: Shape, dtype: Any) -> Any:
    """With random weights, on the GPU."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=shape.hidden,
        intermediate_size=shape.inner,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.heads // 4,
        max_position_embeddings=8192,
        tie_word_embeddings=shape.tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    torch.manual_seed(0)
    with torch.device("cuda"):
        return AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa")


def flops_of(shape: Shape, full: bool) -> float:
    """Operations a token in matrix products with the model's own weights, as in `training.py`."""
    attention = shape.hidden * shape.hidden * 2 + shape.hidden * shape.hidden // 4 * 2
    body = shape.layers * (attention + 3 * shape.hidden * shape.inner)
    return float((6 if full else 4) * (body + VOCABULARY * shape.hidden))


def product_rate() -> float:
    """Operations a second of bfloat16 products of large matrices."""
    import torch

    a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
    for _ in range(3):
        a @ a
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(10):
        a @ a
    torch.cuda.synchronize()
    return 10 * 2 * 8192**3 / (time.perf_counter() - began)


class Clock:
    """When each step ended, and the tokens it had read."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def tick(self) -> None:
        """A step ended."""
        import torch

        torch.cuda.synchronize()
        self.ends.append(time.perf_counter())

    def rate(self, tokens: list[int]) -> float:
        """Tokens a second after the warm-up."""
        return sum(tokens[WARM:]) / (self.ends[-1] - self.ends[WARM - 1])


def run_luthier(shape: Shape, full: bool, rows: list[list[int]]) -> dict[str, Any]:
    import torch

    from luthier.task_training import Training
    from luthier.training.batches import plan
    from luthier.training.config import decide
    from luthier.training.loop import fit
    from luthier.training.method import METHODS
    from luthier.training.objectives.sft import Item, Sft

    method = "full" if full else "lora"
    config = decide(
        Training(epochs=1, batch_size=BATCH, rank=RANK, loss_on="all", learning_rate=1e-5),
        method=method,
        examples=len(rows),
        hidden_size=shape.hidden,
        context_length=8192,
        bfloat16=True,
        gpu=True,
        seed=0,
    )
    model = model_of(shape, torch.bfloat16)
    model = METHODS.get(method)().prepare(model, config, base="random")
    items = [Item(ids[:-1], ids[1:]) for ids in rows]
    lengths = [item.length for item in items]
    steps = plan(lengths, batch_size=BATCH, epochs=1, seed=0)
    clock, losses = Clock(), []
    began = time.perf_counter()

    def told(report: Any) -> None:
        clock.tick()
        losses.append(report.loss)

    fit(model, Sft(), items, config, report=told)
    return {
        "rate": clock.rate([sum(lengths[row] for row in step) for step in steps]),
        "first": clock.ends[0] - began,
        "losses": [losses[0], losses[-1]],
    }


def run_trl(
    shape: Shape, full: bool, rows: list[list[int]], liger: bool, wide: bool
) -> dict[str, Any]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast, TrainerCallback
    from trl import SFTConfig, SFTTrainer

    words = Tokenizer(models.WordLevel({"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3}, "<unk>"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", bos_token="<s>", eos_token="</s>"
    )
    clock = Clock()
    tokens: list[int] = []
    began = [0.0]

    class Steps(TrainerCallback):
        def on_train_begin(self, *args: Any, **kwargs: Any) -> None:
            began[0] = time.perf_counter()

        def on_step_end(self, *args: Any, **kwargs: Any) -> None:
            clock.tick()

    model = model_of(shape, torch.float32 if wide else torch.bfloat16)
    lora = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear")
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            processing_class=tokenizer,
            train_dataset=Dataset.from_list([{"input_ids": i, "labels": i} for i in rows]),
            peft_config=None if full else lora,
            callbacks=[Steps()],
            args=SFTConfig(
                output_dir=folder,
                per_device_train_batch_size=BATCH,
                num_train_epochs=1,
                learning_rate=1e-5,
                bf16=True,
                use_liger_kernel=liger,
                train_sampling_strategy="group_by_length",
                gradient_checkpointing=False,
                max_length=None,
                report_to=[],
                save_strategy="no",
                logging_steps=1,
                disable_tqdm=True,
                dataloader_num_workers=0,
                dataset_kwargs={"skip_prepare_dataset": True},
            ),
        )
        collate = trainer.data_collator

        def counting(batch: list[dict[str, Any]]) -> Any:
            tokens.append(sum(len(row["input_ids"]) - 1 for row in batch))
            return collate(batch)

        trainer.data_collator = counting
        trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    return {
        "rate": clock.rate(tokens),
        "first": clock.ends[0] - began[0],
        "losses": [losses[0], losses[-1]],
    }


def work(case: str, side: str, count: int) -> dict[str, Any]:
    """One side of one case, in this process."""
    import torch

    name, method = case.split("-")
    shape, full = SHAPES[name], method == "full"
    rate = product_rate()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    rows = rows_of(count)
    if side == "luthier":
        found = run_luthier(shape, full, rows)
    else:
        found = run_trl(shape, full, rows, side.startswith("liger"), side.endswith("float32"))
    return {
        **found,
        "peak": torch.cuda.max_memory_allocated(),
        "fraction": found["rate"] * flops_of(shape, full) / rate,
        "products": rate,
        "device": torch.cuda.get_device_name(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--only", default=",".join(CASES))
    parser.add_argument("--sides", default=",".join(SIDES))
    parser.add_argument("--rows", type=int, default=512)
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        case, side = given.worker.split(",")
        print(json.dumps(work(case, side, given.rows)))
        return
    head = ("", "tokens/s", "peak GB", "fraction", "first step s", "first loss", "last loss")
    print(("{:24}" + "{:>13}" * 6).format(*head), flush=True)
    for case in given.only.split(","):
        ours: dict[str, Any] = {}
        for side in given.sides.split(","):
            if side.endswith("float32") and not case.endswith("full"):
                continue
            command = [*(sys.executable, __file__, "--worker", f"{case},{side}")]
            command += ["--rows", str(given.rows)]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                print(f"{side} {case} failed: {done.stderr.strip()[-1500:]}", flush=True)
                continue
            one = json.loads(done.stdout.strip().splitlines()[-1])
            ours = ours or (one if side == "luthier" else {})
            against = ""
            if ours and side != "luthier":
                against = (
                    f"   Luthier: {ours['rate'] / one['rate']:.2f}x tokens/s, "
                    f"{ours['peak'] / one['peak']:.2f}x memory"
                )
            numbers = (one["peak"] / 1e9, one["fraction"], one["first"], *one["losses"])
            print(
                f"{side + ' ' + case:24}{one['rate']:13.0f}"
                + "".join(f"{number:13.2f}" for number in numbers)
                + against,
                flush=True,
            )
    if ours:
        print(f"{ours['device']}, products at {ours['products'] / 1e12:.0f} TFLOP/s")


if __name__ == "__main__":
    main()
