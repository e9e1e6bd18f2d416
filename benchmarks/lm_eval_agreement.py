"""Our likelihood scores against lm-eval's Hugging Face backend: same model, rows and prompts.

    python benchmarks/lm_eval_agreement.py DATA [--model smollm2-135m-instruct]
        [--rows piqa=100,arc_easy=25,arc_challenge=25] [--dtype float32] [--batch 16]

DATA is the folder `general` of public probes, rows {query, choices, gold}. Needs lm-eval (0.4.13).
The first rows of each file are asked; prints acc and acc_norm of both (by characters, as lm-eval
has it), the items on which they differ, and the largest difference of a log-likelihood. Exits
with 1 where an accuracy differs by more than one item, or a log-likelihood by more than 0.01 nats
in float32.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from luthier.evaluation.forgetting import Probe, choice_scores
from luthier.evaluation.probe_sources import read_probes
from luthier.generation.local import Generator
from luthier.models.tuned import load_any


def theirs(loaded: Any, probes: list[Probe], batch: int) -> list[list[float]]:
    """Log-likelihoods [probe][choice] by lm-eval."""
    lm = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch)
    pairs = [
        (number, index, probe.asked(index))
        for number, probe in enumerate(probes)
        for index in range(len(probe.choices))
    ]
    requests = [
        Instance("loglikelihood", {}, pair, index, (None, number, 1))
        for number, index, pair in pairs
    ]
    scores: list[list[float]] = [[] for _ in probes]
    for (number, _, _), (value, _) in zip(
        pairs, lm.loglikelihood(requests, disable_tqdm=True), strict=True
    ):
        scores[number].append(float(value))
    return scores


def right(probes: list[Probe], scores: list[list[float]], *, normed: bool) -> np.ndarray:
    """For each probe whether its gold choice scores best, by lm-eval's two rules."""
    return np.array(
        [
            int(np.argmax(np.array(row) / (np.array([len(c) for c in p.choices]) if normed else 1)))
            == p.gold
            for p, row in zip(probes, scores, strict=True)
        ]
    )


def main() -> int:
    """Compare, print, and say whether they agree."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rows", default="piqa=100,arc_easy=25,arc_challenge=25")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args()
    loaded = load_any(given.model, getattr(torch, given.dtype))
    generator = Generator(loaded.model, loaded.tokenizer)
    agreed = True
    for part in given.rows.split(","):
        name, count = part.split("=")
        probes = list(read_probes([str(given.data / f"{name}.jsonl")], Path()).questions)
        probes = probes[: int(count)]
        started = time.perf_counter()
        found = choice_scores(generator, probes)
        ours = [row for row in found if row is not None]
        assert len(ours) == len(probes)
        mine = time.perf_counter() - started
        started = time.perf_counter()
        other = theirs(loaded, probes, given.batch)
        took = time.perf_counter() - started
        far = max(
            abs(a - b) for x, y in zip(ours, other, strict=True) for a, b in zip(x, y, strict=True)
        )
        said = []
        for label, normed in (("acc", False), ("acc_norm", True)):
            a, b = right(probes, ours, normed=normed), right(probes, other, normed=normed)
            said.append(f"{label} {a.mean():.4f} / {b.mean():.4f} ({int((a != b).sum())} differ)")
            agreed &= abs(int(a.sum()) - int(b.sum())) <= 1
        agreed &= given.dtype != "float32" or far < 0.01
        print(
            f"{name}, {len(probes)} rows, {given.dtype}: ours / lm-eval {', '.join(said)}; "
            f"largest difference {far:.5f} nats; {mine:.1f} s / {took:.1f} s"
        )
    return 0 if agreed else 1


if __name__ == "__main__":
    raise SystemExit(main())
