"""What comes with the project as written content: the example, the probes, the starters."""

from __future__ import annotations

import csv
import itertools
import json
import re
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from luthier.data.prepare import prepare
from luthier.errors import InputError
from luthier.evaluation.forgetting import general_probes
from luthier.starters import kinds, write_starter
from luthier.task import KINDS, Task

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "support-triage"
PROBES = ROOT / "luthier" / "evaluation" / "probes"
NEAR = 0.5


def trigrams(text: str) -> frozenset[str]:
    plain = re.sub(r"\W+", " ", text.lower()).strip()
    return frozenset(plain[i : i + 3] for i in range(max(1, len(plain) - 2)))


def near_duplicates(texts: list[str]) -> list[tuple[str, str]]:
    sets = [trigrams(text) for text in texts]
    pairs = itertools.combinations(range(len(texts)), 2)
    return [
        (texts[i], texts[j])
        for i, j in pairs
        # sets of very different size cannot be that alike, and sizes are cheap to compare
        if min(len(sets[i]), len(sets[j])) > NEAR * max(len(sets[i]), len(sets[j]))
        and len(sets[i] & sets[j]) > NEAR * len(sets[i] | sets[j])
    ]


def test_the_duplicate_check_sees_a_changed_name() -> None:
    pair = ["My parcel to Anna has not arrived yet.", "My parcel to Anton has not arrived yet!"]
    assert near_duplicates([*pair, "The lamp flickers."]) == [tuple(pair)]


@pytest.fixture(scope="module")
def messages() -> list[dict[str, str]]:
    with (EXAMPLE / "data" / "messages.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class TestSupportTriage:
    def test_columns_are_filled_and_ids_are_unique(self, messages: list[dict[str, str]]) -> None:
        assert list(messages[0]) == ["id", "received", "channel", "message", "team", "hard"]
        assert all(value and value.strip() for row in messages for value in row.values())
        assert len({row["id"] for row in messages}) == len(messages)
        assert {row["channel"] for row in messages} == {"email", "chat", "form", "app"}
        days = [date.fromisoformat(row["received"]) for row in messages]
        assert {day.year for day in days} == {2025}
        assert days == sorted(days)

    def test_size_and_classes(self, messages: list[dict[str, str]]) -> None:
        assert len(messages) >= 480
        shares = [n / len(messages) for n in Counter(row["team"] for row in messages).values()]
        assert len(shares) == 8
        assert 0.05 < min(shares) < 0.08
        assert 0.18 < max(shares) < 0.24

    def test_about_a_fifth_is_hard_and_every_team_has_some(
        self, messages: list[dict[str, str]]
    ) -> None:
        hard = Counter(row["team"] for row in messages if row["hard"] == "yes")
        assert {row["hard"] for row in messages} == {"yes", "no"}
        assert 0.17 < hard.total() / len(messages) < 0.23
        assert set(hard) == {row["team"] for row in messages}

    def test_messages_vary(self, messages: list[dict[str, str]]) -> None:
        texts = [row["message"] for row in messages]
        assert near_duplicates(texts) == []
        openings = Counter(" ".join(text.lower().split()[:3]) for text in texts)
        assert max(openings.values()) <= 6
        words = [len(text.split()) for text in texts]
        assert max(words) <= 125
        assert sum(n > 60 for n in words) >= 10
        assert sum(n < 8 for n in words) >= 20
        assert sum(any(ord(c) > 0x1F000 for c in text) for text in texts) >= 8
        assert sum(text.isupper() for text in texts) >= 3

    def test_addresses_are_made_up(self, messages: list[dict[str, str]]) -> None:
        hosts = re.findall(r"[\w.]+@([\w.-]+\w)", " ".join(row["message"] for row in messages))
        assert hosts
        assert all(re.search(r"(^|\.)example(\.(com|org))?$", host) for host in hosts)

    def test_task_reads_the_rows(self, messages: list[dict[str, str]]) -> None:
        task = Task.load(EXAMPLE)
        assert task.name == "support-triage"
        assert set(task.labels or ()) == {row["team"] for row in messages}
        assert len(task.instruction.split()) <= 110
        assert all(f"{label}:" in task.instruction for label in task.labels or ())
        splits = prepare(task).splits
        assert (len(splits.train), len(splits.test)) == (300, 200)
        known = {row["message"].strip() for row in messages}
        assert all(e.input.strip() in known for _, part in splits.items() for e in part)

    def test_readme_states_the_true_counts(self, messages: list[dict[str, str]]) -> None:
        readme = (EXAMPLE / "README.md").read_text(encoding="utf-8")
        stated = dict(re.findall(r"^\| ([a-z]+) \|[^|]+\| (\d+) \|$", readme, re.MULTILINE))
        assert {team: int(n) for team, n in stated.items()} == Counter(
            row["team"] for row in messages
        )
        assert readme.split("\n\n")[1].startswith(f"{len(messages)} messages")
        assert f"yes for the {sum(row['hard'] == 'yes' for row in messages)} messages" in readme


class TestProbes:
    def test_general_probes_are_balanced(self) -> None:
        probes = general_probes()
        assert len(probes) == 120
        assert len({p.id for p in probes}) == 120
        assert set(Counter(p.area for p in probes).values()) == {15}
        assert Counter(p.gold for p in probes) == {0: 30, 1: 30, 2: 30, 3: 30}

    def test_a_choice_continues_its_query(self) -> None:
        for probe in general_probes():
            assert len(set(probe.choices)) == 4
            assert probe.query == probe.query.strip()
            assert all(c.startswith(" ") and c.strip() == c[1:] for c in probe.choices), probe.id

    def test_length_does_not_give_the_answer_away(self) -> None:
        probes = general_probes()
        for pick in (min, max):
            hits = sum(p.choices.index(pick(p.choices, key=len)) == p.gold for p in probes)
            assert hits / len(probes) < 0.45

    def test_no_query_comes_twice(self) -> None:
        assert near_duplicates([p.query for p in general_probes()]) == []

    def test_passages(self) -> None:
        lines = (PROBES / "text.jsonl").read_text(encoding="utf-8").splitlines()
        passages = [json.loads(line) for line in lines]
        assert len(passages) == 24
        assert all(set(p) == {"id", "area", "text"} for p in passages)
        assert len({p["id"] for p in passages}) == 24
        assert len({p["area"] for p in passages}) >= 8
        assert all(80 <= len(p["text"].split()) <= 120 for p in passages)
        assert near_duplicates([p["text"] for p in passages]) == []


class TestStarters:
    def test_every_kind_has_one(self) -> None:
        assert kinds() == sorted(KINDS)

    @pytest.mark.parametrize("kind", KINDS)
    def test_starter_loads_and_splits(self, kind: str, tmp_path: Path) -> None:
        written = write_starter(kind, tmp_path / "new")
        assert [path.name for path in written if path.suffix == ".yaml"] == ["task.yaml"]
        task = Task.load(tmp_path / "new")
        assert task.kind == kind
        splits = prepare(task).splits
        examples = [example for _, part in splits.items() for example in part]
        assert (40 if kind == "classification" else 30) <= len(examples) <= 60
        assert min(len(part) for _, part in splits.items()) >= 5
        assert near_duplicates([" ".join(m.content for m in e.messages) for e in examples]) == []
        assert all(example.output.strip() for example in examples)

    def test_classes_have_enough_rows(self, tmp_path: Path) -> None:
        write_starter("classification", tmp_path)
        splits = prepare(Task.load(tmp_path)).splits
        counts = Counter(e.output for _, part in splits.items() for e in part)
        assert len(counts) >= 2
        assert min(counts.values()) >= 5

    def test_entity_types_have_enough_rows(self, tmp_path: Path) -> None:
        write_starter("ner", tmp_path)
        rows = self._rows(tmp_path)
        types = Counter(t[2:] for row in rows for t in {t for t in row["tags"] if t[0] == "B"})
        assert min(types.values()) >= 5
        assert all(len(row["tokens"]) == len(row["tags"]) for row in rows)
        assert sum(set(row["tags"]) == {"O"} for row in rows) >= 3

    def test_some_conversations_have_several_turns(self, tmp_path: Path) -> None:
        write_starter("chat", tmp_path)
        lengths = Counter(len(row["messages"]) for row in self._rows(tmp_path))
        assert lengths[2] >= 5
        assert sum(n for turns, n in lengths.items() if turns > 2) >= 5

    def test_bookings_follow_the_form_that_is_asked_for(self, tmp_path: Path) -> None:
        write_starter("extraction", tmp_path)
        for row in self._rows(tmp_path):
            booking = row["booking"]
            assert list(booking) == ["name", "people", "day", "time"]
            assert booking["name"].casefold() in row["message"].casefold()
            assert booking["time"] is None or re.fullmatch(r"[012]\d:[0-5]\d", booking["time"])

    def test_a_folder_with_something_in_it_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "mine.txt").write_text("keep")
        with pytest.raises(InputError, match="not empty"):
            write_starter("qa", tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]

    def test_a_file_is_no_folder(self, tmp_path: Path) -> None:
        (tmp_path / "new").write_text("keep")
        with pytest.raises(InputError, match="is a file"):
            write_starter("qa", tmp_path / "new")

    def test_unknown_kind_names_the_nearest(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="'classification'"):
            write_starter("clasification", tmp_path / "new")
        assert not (tmp_path / "new").exists()

    @staticmethod
    def _rows(folder: Path) -> list[dict[str, Any]]:
        text = (folder / "data" / "examples.jsonl").read_text(encoding="utf-8")
        return [json.loads(line) for line in text.splitlines()]
