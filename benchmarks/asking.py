"""When `luthier ask` says "not in the documents": its thresholds, chosen and held to SQuAD 2.0.

    python benchmarks/asking.py collect DATA OUT.jsonl [--each 60]
    python benchmarks/asking.py choose OUT.jsonl

DATA is the folder that holds squad/dev-v2.0.rebuilt.json. Its articles are dealt to two halves, one
to choose on and one to report, each an index of its own; a fifth of them is in neither. Each half
is asked questions of three kinds: answerable, unanswerable (people wrote them so that the paragraph
seems to answer), and foreign (of an article that is not indexed). `collect` keeps what every
threshold needs: how near the passages are, and what the model wrote to each form of asking;
`choose` tries the thresholds on that.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
from pathlib import Path
from typing import Any

from luthier.evaluation.metrics.squad import token_f1
from luthier.retrieval import asking
from luthier.retrieval.grounding import FORMS, content_words, read_answer
from luthier.retrieval.passages import Passage

KINDS = ("answerable", "unanswerable", "foreign")
#: Forms that are tried.
ASKED = ("short", "unoffered")
#: A way to ask that does not offer to say that there is no answer: the thresholds alone say so.
FORMS.setdefault(
    "unoffered",
    "Passages:\n{passages}\n\nAnswer the question in a few words taken from the passages.\n\n"
    "Question: {question}",
)


def collect(given: argparse.Namespace) -> None:
    from luthier.models.pool import ModelPool

    held = json.loads((given.data / "squad" / "dev-v2.0.rebuilt.json").read_text(encoding="utf-8"))
    articles = sorted(held["data"], key=lambda one: one["title"])
    random.Random(0).shuffle(articles)
    fifth = len(articles) // 5
    foreign, rest = articles[:fifth], articles[fifth:]
    halves = {"choose": rest[: len(rest) // 2], "report": rest[len(rest) // 2 :]}
    away = {"choose": foreign[: fifth // 2], "report": foreign[fifth // 2 :]}
    generator = ModelPool(Path()).generator(given.model)
    with given.out.open("w", encoding="utf-8") as out, tempfile.TemporaryDirectory() as home:
        for half, own in halves.items():
            index = indexed(own, Path(home) / half)
            asked = {
                "answerable": questions(own, lambda qa: not qa["is_impossible"], given.each),
                "unanswerable": questions(own, lambda qa: qa["is_impossible"], given.each),
                "foreign": questions(away[half], lambda qa: not qa["is_impossible"], given.each),
            }
            for number in range(given.each):
                for kind in KINDS:
                    qa = asked[kind][number]
                    row = {"half": half, "kind": kind, "question": qa["question"]}
                    row["gold"] = sorted({one["text"] for one in qa["answers"]})
                    row |= measured(index, qa["question"], generator)
                    out.write(json.dumps(row) + "\n")
                out.flush()


def indexed(articles: list[dict[str, Any]], folder: Path) -> Any:
    from luthier.retrieval import building
    from luthier.retrieval.index import Index

    folder.mkdir(parents=True)
    source = folder / "paragraphs.jsonl"
    rows = [
        {"id": f"{a}-{p}", "title": article["title"].replace("_", " "), "text": one["context"]}
        for a, article in enumerate(articles)
        for p, one in enumerate(article["paragraphs"])
    ]
    source.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    building.build([str(source)], folder / "index")
    return Index.open(folder / "index")


def questions(articles: list[dict[str, Any]], wanted: Any, count: int) -> list[dict[str, Any]]:
    found = [qa for a in articles for p in a["paragraphs"] for qa in p["qas"] if wanted(qa)]
    return random.Random(1).sample(found, count)


def measured(index: Any, question: str, generator: Any) -> dict[str, Any]:
    passages = index.search(question, 3)
    words = content_words(question)
    texts = [set(content_words(" ".join([*p.heading, p.text]))) for p in passages]
    near = index.search(question, 1, mode="vectors")
    return {
        "held": max(sum(word in text for word in words) / max(1, len(words)) for text in texts),
        "near": near[0].score,
        "passages": [{"document": p.document, "text": p.text} for p in passages],
        "written": {form: asking.written(generator, question, passages, form) for form in ASKED},
    }


def choose(given: argparse.Namespace) -> None:
    rows = [json.loads(line) for line in given.out.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        passages = [
            Passage(p["document"], 0, len(p["text"]), p["text"], 1.0) for p in row["passages"]
        ]
        row["read"] = {form: read_answer(text, passages) for form, text in row["written"].items()}
    forms = sorted({form for row in rows for form in row["written"]})
    grid = itertools.product(
        forms,
        (0.0, 0.2, 0.3, 0.4, 0.5, 0.6, 1.1),
        (0.3, 0.5, 0.7, 0.9, 1.01),
        (0.0, 0.5, 0.75, 1.0),
    )
    tried = [(scores([r for r in rows if r["half"] == "choose"], *one), one) for one in grid]
    head = ("form", "far", "few", "support", *KINDS, "F1", "wrong", "mean", "mean'")
    print(("{:16}" + "{:>13}" * 10).format(*head))
    best = sorted(tried, key=lambda one: -one[0]["mean"])[:8]
    now = ("short", asking.FAR, asking.FEW, asking.LEAST_SUPPORT)
    for how in [*(one for _, one in best), now]:
        for half in ("choose", "report"):
            said = scores([r for r in rows if r["half"] == half], *how)
            values = [said[kind] for kind in KINDS] + [said["f1"], said["wrong"], said["mean"]]
            shown = "".join(f"{value:>13.3f}" for value in values)
            print(f"{how[0]:16}" + "".join(f"{v:>13}" for v in how[1:]) + shown + f"  {half}")


def scores(
    rows: list[dict[str, Any]], form: str, far: float, few: float, least: float
) -> dict[str, float]:
    """Of each kind, the share that is treated rightly: answered, or told to be not there."""
    said: dict[str, list[float]] = {kind: [] for kind in KINDS}
    f1, wrong = [], []
    for row in rows:
        read = row["read"][form]
        about = row["held"] >= few or row["near"] >= far
        answered = about and not read.abstained
        if least:
            answered = answered and read.support >= least and bool(read.citations)
        right = max((token_f1(read.answer, gold) for gold in row["gold"]), default=0.0)
        if row["kind"] == "answerable":
            said["answerable"].append(float(answered))
            f1.append(right if answered else 0.0)
            wrong.append(float(answered and right == 0))
        else:
            said[row["kind"]].append(float(not answered))
    shares = {kind: sum(values) / max(1, len(values)) for kind, values in said.items()}
    f1_all = sum(f1) / max(1, len(f1))
    # an answer counts by its F1, a question without one by being told so
    mean = (f1_all + (shares["unanswerable"] + shares["foreign"]) / 2) / 2
    return {**shares, "f1": f1_all, "wrong": sum(wrong) / max(1, len(wrong)), "mean": mean}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("collect")
    one.add_argument("data", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--each", type=int, default=60)
    one.add_argument("--model", default="smollm2-135m-instruct")
    one.set_defaults(call=collect)
    two = verbs.add_parser("choose")
    two.add_argument("out", type=Path)
    two.set_defaults(call=choose)
    given = parser.parse_args()
    given.call(given)


if __name__ == "__main__":
    main()
