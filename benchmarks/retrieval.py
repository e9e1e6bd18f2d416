"""Retrieval: quality on SQuAD, and speed and size at a hundred thousand passages.

    python benchmarks/retrieval.py quality DATA [--questions 2000]
    python benchmarks/retrieval.py scale DATA [--passages 100000]

DATA is the folder that holds squad/dev-v1.1.rebuilt.json. `quality` indexes the paragraphs as
documents (a title above each, one passage a document) and asks the questions: recall@1/5/10, MRR@10
and nDCG@10 of BM25, vectors, both, and both with the sentence reranker, beside bm25s over the same
text with English stemming and without stop words, as here. `scale` indexes generated documents and
says what indexing, a question and an update take, against sentence-transformers' plain encode of
the same texts on this machine.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def squad(data: Path) -> tuple[list[dict[str, str]], list[tuple[str, str]]]:
    """(paragraphs as rows, (question, id of its paragraph))."""
    held = json.loads((data / "squad" / "dev-v1.1.rebuilt.json").read_text(encoding="utf-8"))
    rows: dict[str, dict[str, str]] = {}
    asked = []
    for article in held["data"]:
        for paragraph in article["paragraphs"]:
            text = paragraph["context"]
            row = rows.setdefault(
                text,
                {"id": str(len(rows)), "title": article["title"].replace("_", " "), "text": text},
            )
            asked += [(qa["question"], row["id"]) for qa in paragraph["qas"]]
    return list(rows.values()), asked


def measures(
    found: Sequence[Sequence[str]], wanted: Sequence[str]
) -> dict[str, np.ndarray[Any, Any]]:
    """Recall@1/5/10, MRR@10 and nDCG@10 of every question; each has one right document."""
    ranks = np.array(
        [
            row[:10].index(gold) + 1 if gold in row[:10] else np.inf
            for row, gold in zip(found, wanted, strict=True)
        ]
    )
    return {
        **{f"recall@{k}": (ranks <= k).astype(float) for k in (1, 5, 10)},
        "mrr@10": 1 / ranks,
        "ndcg@10": 1 / np.log2(ranks + 1),
    }


def interval(values: np.ndarray[Any, Any], draws: int = 5000) -> tuple[float, float]:
    """95 % percentile bootstrap interval of the mean over questions."""
    numbers = np.random.default_rng(0)
    count = len(values)
    means = [values[numbers.integers(count, size=count)].mean() for _ in range(draws)]
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def differences(said: dict[str, dict[str, np.ndarray[Any, Any]]]) -> None:
    """What is claimed of pairs, on the same questions."""
    for one, other in (
        ("hybrid", "bm25"),
        ("hybrid", "vectors"),
        ("bm25", "bm25s (stemmed)"),
        ("hybrid + reranker", "hybrid"),
    ):
        apart = said[one]["ndcg@10"] - said[other]["ndcg@10"]
        low, high = interval(apart)
        print(f"nDCG@10, {one} - {other}: {apart.mean():+.4f} ({low:+.4f} to {high:+.4f})")


def quality(given: argparse.Namespace) -> None:
    import bm25s

    from luthier.retrieval import building
    from luthier.retrieval.chunks import Chunking
    from luthier.retrieval.index import Index

    rows, asked = squad(given.data)
    asked = random.Random(0).sample(asked, min(given.questions, len(asked)))
    questions, wanted = [q for q, _ in asked], [gold for _, gold in asked]
    print(f"{len(questions)} questions")
    columns = ("", "recall@1", "recall@5", "recall@10", "mrr@10", "ndcg@10", "s a question")
    print(("{:28}" + "{:>13}" * 6).format(*columns))
    said: dict[str, dict[str, np.ndarray[Any, Any]]] = {}
    texts = [f"{row['title']}\n{row['text']}" for row in rows]
    began = time.perf_counter()
    peer = bm25s.BM25(k1=1.2, b=0.75)
    stem = stemmer()
    tokens = bm25s.tokenize(texts, stopwords="en", stemmer=stem, show_progress=False)
    peer.index(tokens, show_progress=False)
    asked_tokens = bm25s.tokenize(questions, stopwords="en", stemmer=stem, show_progress=False)
    places, _ = peer.retrieve(asked_tokens, k=10, show_progress=False)
    spent = (time.perf_counter() - began) / len(questions)
    name = "bm25s (stemmed)"
    said[name] = show(name, [[rows[i]["id"] for i in row] for row in places], wanted, spent)
    with tempfile.TemporaryDirectory() as home:
        source = Path(home) / "squad.jsonl"
        source.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        began = time.perf_counter()
        # one passage a document, so that both sides rank the same things
        building.build([str(source)], Path(home) / "index", chunking=Chunking(20_000, 0))
        print(f"{len(rows)} documents indexed in {time.perf_counter() - began:.0f} s")
        index = Index.open(Path(home) / "index")
        ways: list[tuple[str, dict[str, Any]]] = [
            ("bm25", {"mode": "bm25"}),
            ("vectors", {"mode": "vectors"}),
            ("hybrid", {"mode": "hybrid"}),
            ("reciprocal ranks", {"mode": "rrf"}),
            ("hybrid + reranker", {"mode": "hybrid", "rerank": True}),
        ]
        for name, how in ways:
            began = time.perf_counter()
            found = index.search_many(questions, 10, **how)
            spent = (time.perf_counter() - began) / len(questions)
            ids = [[p.document.split("#")[1] for p in one] for one in found]
            said[name] = show(name, ids, wanted, spent)
    differences(said)


def stemmer() -> Any:
    """The English Snowball stemmer, where it is installed."""
    try:
        import Stemmer
    except ImportError:
        return None
    return Stemmer.Stemmer("english")


def show(
    name: str, found: list[list[str]], wanted: list[str], spent: float
) -> dict[str, np.ndarray[Any, Any]]:
    """Print a row of the table; what every question got."""
    said = measures(found, wanted)
    low, high = interval(said["ndcg@10"])
    print(
        f"{name:28}"
        + "".join(f"{value.mean():13.4f}" for value in said.values())
        + f"{spent:13.4f}   nDCG@10 {low:.3f} to {high:.3f}",
        flush=True,
    )
    return said


def scale(given: argparse.Namespace) -> None:
    from luthier.models.encoder import Encoder
    from luthier.models.loading import load_encoder
    from luthier.retrieval import building
    from luthier.retrieval.index import ENCODER, Index
    from luthier.retrieval.writing import load_for_many

    rows, asked = squad(given.data)
    source_words = [row["text"].split() for row in rows]
    numbers = random.Random(1)

    def generated() -> dict[str, str]:
        words = numbers.choice(source_words)
        start = numbers.randrange(max(1, len(words) - 20))
        count = numbers.randint(15, 120)
        return {"text": " ".join(words[start : start + count]) + f" {numbers.random():.6f}"}

    made = [{"id": str(number), **generated()} for number in range(given.passages)]
    with tempfile.TemporaryDirectory() as home:
        source = Path(home) / "rows.jsonl"
        source.write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
        encoder = load_for_many(ENCODER)
        exact = Encoder.load(ENCODER)
        some = [row["text"] for row in made[: given.sample]]
        encoder.encode(some[:64])  # the first products are slow
        began = time.perf_counter()
        ours = encoder.encode(some)[0]
        rate = len(some) / (time.perf_counter() - began)
        from sentence_transformers import SentenceTransformer

        peer = SentenceTransformer(str(load_encoder(ENCODER, ours_dtype()).path))
        peer.max_seq_length = encoder.longest
        peer.encode(some[:64], show_progress_bar=False)
        began = time.perf_counter()
        theirs = peer.encode(some, normalize_embeddings=True, show_progress_bar=False)
        other = len(some) / (time.perf_counter() - began)
        cosine = float((ours * theirs).sum(1).min())
        print(
            f"encoding {len(some)} texts: {rate:.0f} a second, sentence-transformers {other:.0f}: "
            f"{rate / other:.2f}x; lowest cosine {cosine:.5f}",
            flush=True,
        )
        began = time.perf_counter()
        done = building.build([str(source)], Path(home) / "index", loaded=encoder)
        whole = time.perf_counter() - began
        size = sum(f.stat().st_size for f in (Path(home) / "index").rglob("*") if f.is_file())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(
            f"{done.change.chunks} passages in {whole:.0f} s ({done.change.chunks / whole:.0f} a "
            f"second); {size / 1e6:.0f} MB; peak memory {peak / 1e9:.2f} GB",
            flush=True,
        )
        index = Index.open(Path(home) / "index", exact)
        for mode in ("bm25", "vectors", "hybrid"):
            times = []
            for question, _ in numbers.sample(asked, 60):
                began = time.perf_counter()
                index.search(question, 10, mode=mode)  # type: ignore[arg-type]
                times.append(1000 * (time.perf_counter() - began))
            times.sort()
            print(
                f"{mode}: p50 {statistics.median(times):.0f} ms, p95 {times[57]:.0f} ms", flush=True
            )
        for number in numbers.sample(range(len(made)), len(made) // 100):
            made[number] |= generated()
        source.write_text("\n".join(map(json.dumps, made)), encoding="utf-8")
        began = time.perf_counter()
        after = building.update(Path(home) / "index", loaded=encoder)
        spent = time.perf_counter() - began
        print(
            f"an update of {after.change.updated} documents: {spent:.1f} s, "
            f"{100 * spent / whole:.1f} % of building"
        )


def ours_dtype() -> Any:
    import torch

    return torch.float32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parts = parser.add_subparsers(required=True)
    one = parts.add_parser("quality")
    one.add_argument("data", type=Path)
    one.add_argument("--questions", type=int, default=2000)
    one.set_defaults(work=quality)
    two = parts.add_parser("scale")
    two.add_argument("data", type=Path)
    two.add_argument("--passages", type=int, default=100_000)
    two.add_argument("--sample", type=int, default=4096, help="texts that the rates are taken on")
    two.set_defaults(work=scale)
    given = parser.parse_args()
    given.work(given)


if __name__ == "__main__":
    main()
