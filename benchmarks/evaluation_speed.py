"""How fast questions are scored and answered, against lm-eval and against transformers' generate.

    python benchmarks/evaluation_speed.py DATA [--model smollm2-135m-instruct] [--rows 200]
        [--parts zero-shot,five-shot,generate] [--dtypes bfloat16,float32] [--batch 16]

DATA is the folder `general` of public probes, rows {query, choices, gold}.

`zero-shot`: PIQA, ARC easy and ARC challenge, every choice scored by its log-likelihood, against
lm-eval's Hugging Face backend on the same rows. `five-shot`: the same with five answered questions
before each (the same five for all rows of a file). Ours runs in bfloat16 where a CPU computes in it
at speed, in float32 elsewhere; lm-eval in each of `--dtypes`, float32 being its default.
`generate`: ROWS questions with eight answered ones before them, up to 16 tokens written greedily,
against transformers' `generate` in batches, padded on the left; the tokens written are compared.

Each side is warmed up on a few rows. Prints rows a second, ratios, how many accuracies and greedy
answers are the same. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from luthier.evaluation.forgetting import choice_scores
from luthier.evaluation.probe_items import Probe
from luthier.evaluation.probe_sources import read_probes
from luthier.generation.local import Generator
from luthier.generation.options import Stopping
from luthier.models.machine import this_machine
from luthier.models.tuned import load_any

FILES = ("piqa", "arc_easy", "arc_challenge")
NEW = 16
EXAMPLES = 8


def probes_of(data: Path, name: str, rows: int, shots: int) -> list[Probe]:
    """The first questions of a file after those that are shown as examples."""
    found = list(read_probes([str(data / f"{name}.jsonl")], Path()).questions)
    shown = "".join(f"{''.join(p.asked(p.gold))}\n\n" for p in found[:shots])
    return [replace(p, query=shown + p.query) for p in found[shots : shots + rows]]


def theirs(loaded: Any, probes: Sequence[Probe], batch: int) -> list[list[float]]:
    """Log-likelihoods [probe][choice] by lm-eval."""
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    lm = HFLM(pretrained=loaded.model, tokenizer=loaded.tokenizer, batch_size=batch)
    places = [(n, i) for n, probe in enumerate(probes) for i in range(len(probe.choices))]
    requests = [
        Instance("loglikelihood", {}, probes[n].asked(i), i, (None, n, 1)) for n, i in places
    ]
    scores: list[list[float]] = [[0.0] * len(probe.choices) for probe in probes]
    found = lm.loglikelihood(requests, disable_tqdm=True)
    for (n, i), (value, _) in zip(places, found, strict=True):
        scores[n][i] = float(value)
    return scores


def accuracy(probes: Sequence[Probe], scores: Sequence[Sequence[float]]) -> float:
    """Share of rows whose likeliest choice is the right one."""
    return float(
        np.mean([int(np.argmax(s)) == p.gold for p, s in zip(probes, scores, strict=True)])
    )


def timed(work: Any) -> tuple[Any, float]:
    """What it gives, and seconds."""
    started = time.perf_counter()
    found = work()
    return found, time.perf_counter() - started


def likelihood(given: argparse.Namespace, shots: int) -> None:
    """One line for each dtype of lm-eval."""
    parts = [probes_of(given.data, name, given.rows, shots) for name in FILES]
    rows = sum(len(part) for part in parts)
    own = "bfloat16" if this_machine().fast_bfloat16 else "float32"
    loaded = load_any(given.model, getattr(torch, own))
    generator = Generator(loaded.model, loaded.tokenizer)
    choice_scores(generator, parts[0][:8])
    ours, mine = timed(lambda: [choice_scores(generator, part) for part in parts])
    exact = [accuracy(p, [s or [0.0] for s in o]) for p, o in zip(parts, ours, strict=True)]
    print(
        f"{shots}-shot, ours in {own}: {rows / mine:.1f} rows/s, accuracy {said(exact)}", flush=True
    )
    for dtype in given.dtypes.split(","):
        other = load_any(given.model, getattr(torch, dtype))
        theirs(other, parts[0][:8], given.batch)
        found, took = timed(lambda one=other: [theirs(one, p, given.batch) for p in parts])
        right = [accuracy(p, s) for p, s in zip(parts, found, strict=True)]
        print(
            f"{shots}-shot, lm-eval in {dtype}: {rows / took:.1f} rows/s, accuracy {said(right)}; "
            f"ours is {took / mine:.2f} times as fast",
            flush=True,
        )


def said(shares: Sequence[float]) -> str:
    """Accuracies of the files, in order."""
    return ", ".join(f"{name} {share:.3f}" for name, share in zip(FILES, shares, strict=True))


def generate(given: argparse.Namespace) -> None:
    """Few-shot answers, greedily."""
    found = list(read_probes([str(given.data / "piqa.jsonl")], Path()).questions)
    shown = "".join(f"{''.join(p.asked(p.gold))}\n\n" for p in found[:EXAMPLES])
    texts = [shown + p.query for p in found[EXAMPLES : EXAMPLES + given.rows]]
    own = "bfloat16" if this_machine().fast_bfloat16 else "float32"
    written = {}
    rates = {}
    for dtype in dict.fromkeys([own, *given.dtypes.split(",")]):
        loaded = load_any(given.model, getattr(torch, dtype))
        prompts = [loaded.tokenizer(text)["input_ids"] for text in texts]
        if dtype == own:
            generator = Generator(loaded.model, loaded.tokenizer)
            stopping = Stopping(frozenset(), max_new_tokens=NEW)
            generator.generate([[*p] for p in prompts[:2]], stopping)
            answers, seconds = timed(lambda g=generator, p=prompts, s=stopping: g.generate(p, s))
            written["ours"] = [a.text for a in answers]
            rates["ours"] = len(texts) / seconds
            print(f"generate, ours in {dtype}: {rates['ours']:.2f} rows/s", flush=True)
        if dtype in given.dtypes.split(","):
            batched(loaded, prompts[:2], 2)
            answers, seconds = timed(lambda m=loaded, p=prompts: batched(m, p, given.batch))
            same = sum(a == b for a, b in zip(answers, written["ours"], strict=True))
            rate = len(texts) / seconds
            print(
                f"generate, transformers in {dtype}: {rate:.2f} rows/s; ours is "
                f"{rates['ours'] / rate:.2f} times as fast, {same} of {len(texts)} the same",
                flush=True,
            )


def batched(loaded: Any, prompts: Sequence[Sequence[int]], batch: int) -> list[str]:
    """transformers' greedy answers, rows of similar length together."""
    order = sorted(range(len(prompts)), key=lambda row: -len(prompts[row]))
    pad = loaded.tokenizer.pad_token_id or 0
    texts = [""] * len(prompts)
    for start in range(0, len(order), batch):
        rows = order[start : start + batch]
        width = max(len(prompts[row]) for row in rows)
        ids = torch.full((len(rows), width), pad)
        mask = torch.zeros_like(ids)
        for at, row in enumerate(rows):
            ids[at, width - len(prompts[row]) :] = torch.tensor(prompts[row])
            mask[at, width - len(prompts[row]) :] = 1
        with torch.inference_mode():
            out = loaded.model.generate(
                ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False, pad_token_id=pad
            )
        for at, row in enumerate(rows):
            text = loaded.tokenizer.decode(out[at, width:], skip_special_tokens=True)
            texts[row] = text.strip()  # as ours are
    return texts


def main() -> None:
    """Measure the parts that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--parts", default="zero-shot,five-shot,generate")
    parser.add_argument("--dtypes", default="bfloat16,float32")
    parser.add_argument("--batch", type=int, default=16)
    given = parser.parse_args()
    for part in given.parts.split(","):
        if part == "generate":
            generate(given)
        else:
            likelihood(given, {"zero-shot": 0, "five-shot": 5}[part])


if __name__ == "__main__":
    main()
