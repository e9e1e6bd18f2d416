"""When `luthier ask` says "not in the documents": its thresholds, chosen and held to SQuAD 2.0.

    python benchmarks/asking.py collect DATA OUT.jsonl [--each 60]
    python benchmarks/asking.py choose OUT.jsonl

DATA is the folder that holds squad/dev-v2.0.rebuilt.json. Its articles are dealt to two halves, one
to choose on and one to report, each an index of its own; a fifth of them is in neither. Each half
is asked questions of three kinds: answerable, unanswerable (people wrote them so that the paragraph
seems to answer), and foreign (of an article that is not indexed). `collect` keeps what every
threshold needs: how near the passages are, which sentence is nearest, and what the model wrote;
`choose` tries the thresholds on that.
"""

from __future__ import annotations

import argparse
import itertools
import json
import random
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from luthier.retrieval import asking
from luthier.retrieval.grounding import content_words, read_answer, support_of
from luthier.retrieval.passages import Passage
from luthier.retrieval.quoting import nearest_sentence

KINDS = ("answerable", "unanswerable", "foreign")
FORM = "short"


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
            if half not in given.halves.split(","):
                continue
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
    found = nearest_sentence(index.encoder, question, passages)
    assert found is not None
    return {
        "held": share(question, passages),
        "near": index.search(question, 1, mode="vectors")[0].score,
        "sentence": found[1].text,
        "sentence_score": found[0],
        "passages": [{"document": p.document, "text": p.text} for p in passages],
        "written": asking.written(generator, question, passages, FORM),
    }


def share(question: str, passages: Sequence[Passage]) -> float:
    """The most of the question's content words that one passage holds."""
    words = content_words(question)
    texts = [set(content_words(" ".join([*p.heading, p.text]))) for p in passages]
    return max(sum(word in text for word in words) / max(1, len(words)) for text in texts)


# ---- thresholds --------------------------------------------------------------------------------


def choose(given: argparse.Namespace) -> None:
    rows = [json.loads(line) for line in given.out.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        passages = [
            Passage(p["document"], 0, len(p["text"]), p["text"], 1.0) for p in row["passages"]
        ]
        row["read"] = read_answer(row["written"], passages)
    halves = {half: [r for r in rows if r["half"] == half] for half in ("choose", "report")}
    print({half: len(rows) for half, rows in halves.items()})
    head = ("how", "about", "support", "hit", "wrong", "silent", *KINDS[1:], "mean")
    print(("{:24}" + "{:>13}" * 8).format(*head))
    ways = [(before, None, 0.5)]
    grid = itertools.product((False, True), ABOUT, SUPPORT)
    ways += [(quoting if quotes else model_alone, about, least) for quotes, about, least in grid]
    ways += [(in_sentence, about, least) for about in ABOUT for least in SUPPORT]
    ways += [(quotes_only, about, None) for about in ABOUT]
    tried = [(scores(halves["choose"], *way)["mean"], way) for way in ways]
    shown = [ways[0], *(way for _, way in sorted(tried, key=lambda one: -one[0])[: given.show])]
    for kind in (model_alone, quoting, quotes_only, in_sentence):
        best = max((one for one in tried if one[1][0] is kind), key=lambda one: one[0])[1]
        shown += [best] * (best not in shown)
    for way in shown:
        for half, held in halves.items():
            if held:
                values = "".join(f"{v:>13.3f}" for v in scores(held, *way).values())
                name = f"{way[0].__name__}, {half}"
                print(f"{name:24}{way[1]!s:>13}{way[2]!s:>13}{values}")


ABOUT = (0.0, 0.3, 0.32, 0.34, 0.36, 0.38, 0.4, 0.42, 0.45)
SUPPORT = (0.5, 0.75, 1.0)


def before(row: dict[str, Any], about: Any, least: float) -> str | None:
    """As it was: words or the cosine say whether the passages are about the question."""
    related = row["held"] >= 0.5 or row["near"] >= 0.3
    return passed(row, least) if related else None


def model_alone(row: dict[str, Any], about: float, least: float) -> str | None:
    """The nearest sentence says whether they are; what the model writes must be supported."""
    return passed(row, least) if row["sentence_score"] >= about else None


def quoting(row: dict[str, Any], about: float, least: float) -> str | None:
    """The same; where the model's words do not pass, the sentence is quoted."""
    if row["sentence_score"] < about:
        return None
    return passed(row, least) or str(row["sentence"])


def quotes_only(row: dict[str, Any], about: float, least: Any) -> str | None:
    """The sentence, without asking the model."""
    return str(row["sentence"]) if row["sentence_score"] >= about else None


def in_sentence(row: dict[str, Any], about: float, least: float) -> str | None:
    """As `ask` does it: what the model writes must stand in that sentence, else that is quoted;
    where the model says that there is no answer, there is none."""
    if row["sentence_score"] < about or row["read"].abstained:
        return None
    answer, sentence = str(row["read"].answer), str(row["sentence"])
    return answer if support_of(answer, sentence) >= least else sentence


def passed(row: dict[str, Any], least: float) -> str | None:
    read = row["read"]
    good = not read.abstained and read.support >= least and read.citations
    return str(read.answer) if good else None


def scores(rows: list[dict[str, Any]], way: Any, about: Any, least: Any) -> dict[str, float]:
    """Of answerable questions the share whose answer holds the gold answer, holds another, or is
    missing; of the others the share that is told to be not there; and a mean of hits and those."""
    said: dict[str, list[float]] = {"hit": [], "wrong": [], "silent": []}
    said |= {kind: [] for kind in KINDS[1:]}
    for row in rows:
        answer = way(row, about, least)
        if row["kind"] != KINDS[0]:
            said[row["kind"]].append(float(answer is None))
            continue
        hit = answer is not None and any(support_of(gold, answer) == 1 for gold in row["gold"])
        said["hit"].append(float(hit))
        said["wrong"].append(float(answer is not None and not hit))
        said["silent"].append(float(answer is None))
    shares = {kind: sum(values) / max(1, len(values)) for kind, values in said.items()}
    silence = (shares["unanswerable"] + shares["foreign"]) / 2
    return {**shares, "mean": (shares["hit"] + silence) / 2}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(required=True)
    one = verbs.add_parser("collect")
    one.add_argument("data", type=Path)
    one.add_argument("out", type=Path)
    one.add_argument("--halves", default="choose,report")
    one.add_argument("--each", type=int, default=60)
    one.add_argument("--model", default="smollm2-135m-instruct")
    one.set_defaults(call=collect)
    two = verbs.add_parser("choose")
    two.add_argument("out", type=Path)
    two.add_argument("--show", type=int, default=6)
    two.set_defaults(call=choose)
    given = parser.parse_args()
    given.call(given)


if __name__ == "__main__":
    main()
