"""Retrieval against no retrieval on SQuAD 2.0: a whole comparison, a third of it unanswerable.

    python benchmarks/retrieval_run.py DATA OUT [--train 300] [--test 500] [--arms a,b] [--resume]

DATA is the folder that holds squad/dev-v2.0.rebuilt.json. Its paragraphs are the documents, all of
them; its articles are dealt to training, validation and test, so no arm is trained on a paragraph
that is asked about. A third of the test questions has no answer, and a fifth of the training
questions, as the published training file is not here. The scorer is SQuAD's token F1: "not in the
documents" is right for a question without an answer and wrong for every other, for every arm.
OUT becomes a folder with the task and its run; the table is printed with intervals, by answerable
and unanswerable questions, and what each arm took.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path
from typing import Any

NOT_FOUND = "not in the documents"
ARMS = "majority,closed-book,rag,oracle,lora+rag"


def questions(data: Path) -> tuple[list[dict[str, str]], list[list[dict[str, Any]]]]:
    """(paragraphs as documents, the questions of each article)."""
    held = json.loads((data / "squad" / "dev-v2.0.rebuilt.json").read_text(encoding="utf-8"))
    documents: dict[str, dict[str, str]] = {}
    articles = []
    for article in held["data"]:
        title = article["title"].replace("_", " ")
        rows = []
        for paragraph in article["paragraphs"]:
            text = paragraph["context"]
            kept = documents.setdefault(
                text, {"id": str(len(documents)), "title": title, "text": text}
            )
            rows += [
                {
                    "id": asked["id"],
                    "question": asked["question"].strip(),
                    "answers": [answer["text"] for answer in asked["answers"]],
                    "paragraph": f"paragraphs.jsonl#{kept['id']}",
                }
                for asked in paragraph["qas"]
            ]
        articles.append(rows)
    return list(documents.values()), articles


def drawn(
    articles: list[list[dict[str, Any]]], count: int, silent: float, numbers: random.Random
) -> list[dict[str, Any]]:
    """So many questions, of which this share has no answer."""
    rows = [row for article in articles for row in article]
    without = round(count * silent)
    chosen = numbers.sample([row for row in rows if row["answers"]], count - without)
    chosen += numbers.sample([row for row in rows if not row["answers"]], without)
    numbers.shuffle(chosen)
    return chosen


def write_task(given: argparse.Namespace) -> Path:
    """The task's folder; the path of its task.yaml."""
    home: Path = given.out / "task"
    home.mkdir(parents=True, exist_ok=True)
    documents, articles = questions(given.data)
    numbers = random.Random(given.seed)
    numbers.shuffle(articles)
    parts = {
        "train": drawn(articles[:12], given.train, given.silent, numbers),
        "validation": drawn(articles[12:16], given.validation, 1 / 3, numbers),
        "test": drawn(articles[16:], given.test, 1 / 3, numbers),
    }
    lines(home / "paragraphs.jsonl", documents)
    for name, rows in parts.items():
        lines(home / f"{name}.jsonl", [row | {"answers": said(row, name)} for row in rows])
    (home / "task.yaml").write_text(
        "name: squad2\nkind: qa\ngoal: Answer questions about articles.\n"
        "instruction: Answer with a few words.\n"
        "data:\n  train: train.jsonl\n  validation: validation.jsonl\n  test: test.jsonl\n"
        '  input: "{{ question }}"\n  output: "{{ answers }}"\n  group: paragraph\n'
        "documents: paragraphs.jsonl\n"
        f"retrieval: {{gold: paragraph, size: {given.size}, overlap: 0, k: {given.k}, "
        "mode: hybrid}\n"
        f"arms: [{given.arms}]\nsuccess: {{max_forgetting: null}}\n"
        "learning_curve: false\nmemorisation: false\n"
        f"budget: {{minutes: {given.minutes}}}\ntraining: {{epochs: {given.epochs}}}\n"
        "generation: {max_new_tokens: 20}\n",
        encoding="utf-8",
    )
    return home / "task.yaml"


def said(row: dict[str, Any], part: str) -> str:
    """The output of a row: one answer to learn, or all that are right."""
    answers = row["answers"]
    if not answers:
        return NOT_FOUND
    return json.dumps(answers) if part == "test" else str(answers[0])


def lines(path: Path, rows: list[Any]) -> None:
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text(text + "\n", encoding="utf-8")


def show(verdict: dict[str, Any]) -> None:
    """The table, as it goes into RESULTS."""
    print(
        "\n| arm | token F1 | 95 % interval | answerable | unanswerable | abstained rightly | s |"
    )
    print("|---|---|---|---|---|---|---|")
    for arm in verdict["arms"]:
        if arm["failed"]:
            print(f"| {arm['name']} | failed: {arm['failed']} | | | | | |")
            continue
        silent = (arm.get("retrieval") or {}).get("abstention") or {}
        low, high = arm["interval"]
        rightly = silent.get("precision")
        print(
            f"| {arm['name']} | {arm['score']:.1%} | {low:.1%} to {high:.1%} "
            f"| {arm['metrics']['has_answer_f1']:.1%} | {arm['metrics']['no_answer_f1']:.1%} "
            f"| {'' if rightly is None else f'{rightly:.0%} of ' + str(silent['abstained'])} "
            f"| {arm['seconds_per_answer']:.2f} |"
        )
    for arm in verdict["arms"]:
        if arm.get("retrieval"):
            print(arm["name"], json.dumps(arm["retrieval"]))
    print(verdict["decision"], verdict["recommendation"], *verdict["reasons"], sep="\n")


def main() -> None:
    import luthier

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--train", type=int, default=300)
    parser.add_argument("--validation", type=int, default=30)
    parser.add_argument("--test", type=int, default=500)
    parser.add_argument("--silent", type=float, default=0.2, help="of training, without an answer")
    parser.add_argument("--size", type=int, default=400, help="characters of a passage")
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--epochs", type=float, default=1)
    parser.add_argument("--minutes", type=float, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--arms", default=ARMS)
    parser.add_argument("--resume", action="store_true")
    given = parser.parse_args()
    task = given.out / "task" / "task.yaml"
    if not given.resume:
        task = write_task(given)
    run = luthier.run(task, out=given.out / "run", resume=given.resume)
    show(run.verdict)


if __name__ == "__main__":
    main()
