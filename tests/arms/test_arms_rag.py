"""Arms that read documents, in a whole comparison with a small random model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from retrieval_fakes import WordEncoder
from tiny_models import write_tiny_model

import luthier
from luthier.arms.base import Answerer, Workplace
from luthier.arms.rag import choose_reader
from luthier.arms.tuned_rag import raft_rows
from luthier.data.examples import Example, Message
from luthier.generation.answers import Answer
from luthier.models.pool import ModelPool
from luthier.progress import Reporter
from luthier.retrieval import building
from luthier.retrieval.grounding import NOT_FOUND
from luthier.retrieval.index import Index
from luthier.retrieval.passages import Passage
from luthier.task import Task


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_tiny_model(tmp_path / "model", context=1024)
    (tmp_path / "docs").mkdir()
    rows = []
    for number in range(24):
        name = f"d{number}.txt"
        (tmp_path / "docs" / name).write_text(f"Room r{number} belongs to team t{number}.")
        rows.append({"q": f"Whose is room r{number}?", "a": f"t{number}", "doc": name})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "task.yaml").write_text(
        "name: rooms\nkind: qa\nmodel: model\ndocuments: docs\nretrieval: {gold: doc, k: 2}\n"
        'data: {train: rows.jsonl, input: "{{ q }}", output: "{{ a }}"}\n'
        "arms: [closed-book, rag, oracle]\nsuccess: {max_forgetting: null}\n"
        "generation: {max_new_tokens: 4}\n"
    )
    monkeypatch.setattr(ModelPool, "encoder", lambda self, name: WordEncoder())
    return tmp_path


def test_a_comparison_of_arms_that_read(home: Path) -> None:
    run = luthier.run(home / "task.yaml", out=home / "run")
    arms = {arm["name"]: arm for arm in run.verdict["arms"]}
    assert not [arm["failed"] for arm in arms.values() if arm["failed"]]
    assert arms["oracle"]["ceiling"] and run.verdict["recommendation"] != "oracle"
    assert arms["oracle"]["retrieval"]["search"]["recall@1"] == 1
    assert arms["rag"]["retrieval"]["search"]["recall@k"] > 0.9
    assert "retrieval" not in arms["closed-book"]
    row = json.loads((home / "run/arms/rag/predictions.jsonl").read_text().splitlines()[0])
    assert len(row["passages"]) == 2 and {"citations", "abstained", "support"} <= set(row)
    page = (home / "run" / "report.html").read_text()
    assert "What was found in the documents" in page and "upper bound" in page
    again = run.arm("rag").answer(["Whose is room r3?"])[0]
    assert "passages" in again.extra


def test_training_rows_hold_the_right_passage_or_say_that_it_is_missing(home: Path) -> None:
    # a document of another group is in no training row
    (home / "docs" / "secret.md").write_text("---\naccess: [board]\n---\nRoom r3 is zanzibar's.\n")
    building.build([str(home / "docs")], home / "index", loaded=WordEncoder())
    index = Index.open(home / "index", WordEncoder())
    task = Task.load(home / "task.yaml")
    examples = [
        Example(
            str(n), (Message("user", f"Whose is room r{n}?"),), f"t{n}", fields={"doc": f"d{n}.txt"}
        )
        for n in range(24)
    ]
    rows = raft_rows(examples, task, index, seed=0)
    assert not any("zanzibar" in row.input for row in rows)
    board = task.changed(retrieval={"gold": "doc", "groups": ["board"]})
    assert any("zanzibar" in row.input for row in raft_rows(examples, board, index, seed=0))
    withheld = [row for row in rows if row.output == NOT_FOUND]
    assert 0 < len(withheld) < 12
    for example, row in zip(examples, rows, strict=True):
        holds = f"belongs to team {example.output}." in row.input
        assert holds == (row.output != NOT_FOUND)
        if holds:
            mark = int(row.output.rsplit("[", 1)[1].rstrip("]"))
            passage = row.input.split(f"<passage {mark}>")[1].split("</passage")[0]
            assert f"team {example.output}." in passage


class NeedsASecondLook:
    """An index whose right passage is only found when passages are put in order again."""

    def search_many(self, questions: Sequence[str], k: int, **how: Any) -> list[list[Passage]]:
        self.asked = [*getattr(self, "asked", []), how["rerank"]]
        return [
            [Passage("d", 0, 9, question[-4:-1] if how["rerank"] else "nothing", 1.0)]
            for question in questions
        ]


class Repeats(Answerer):
    """Answers with the passage that it was shown."""

    def answer(self, conversations: Any, options: Any = None, progress: Any = None) -> list[Answer]:
        texts = [one[-1].content.split("<passage 1>")[1].split("<")[0] for one in conversations]
        return [Answer(text.strip(), 0.0) for text in texts]


@pytest.mark.parametrize(("wanted", "chosen"), [(None, True), (True, True), (False, False)])
def test_a_second_look_is_chosen_on_validation(
    home: Path, wanted: bool | None, chosen: bool
) -> None:
    task = Task.load(home / "task.yaml")
    settled = {"mode": "hybrid", "k": 1, "least_support": 0.0, "rerank": wanted}
    task = task.changed(retrieval={key: v for key, v in settled.items() if v is not None})
    rows = [Example(str(n), (Message("user", f"What is r{n:02}?"),), f"r{n:02}") for n in range(9)]
    place = Workplace(task, rows, rows, None, home, ModelPool(), Reporter(), minutes=1.0)
    index = NeedsASecondLook()
    reader, choices, _ = choose_reader(place, "rag", Repeats(), index)  # type: ignore[arg-type]
    assert reader.rerank is chosen
    assert any("in order again" in choice.what for choice in choices) is (wanted is None)
    assert set(index.asked) == ({False, True} if wanted is None else {wanted})
