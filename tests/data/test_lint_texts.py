"""Lints that read the texts: languages, dates, echoes, facts, pairs, sources, benchmarks."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from lint_samples import Pair, looked_at, run

from luthier.data.linting import LintContext, Rendered
from luthier.data.lints.languages import identify, mixes
from luthier.data.lints.preference_pairs import answer_text
from luthier.data.lints.prompt_echo import echoes
from luthier.data.lints.ungrounded import facts_of, foreign_facts
from luthier.errors import InputError

ENGLISH = (
    "The ferry to the island leaves every morning at nine, and it takes about an hour. Row {}."
)
GERMAN = (
    "Die Fähre zur Insel fährt jeden Morgen um neun Uhr ab und braucht etwa eine Stunde. Zeile {}."
)


def plain(count: int) -> list[Pair]:
    return [(f"Question {n}?", ENGLISH.format(n)) for n in range(count)]


class TestLanguages:
    def test_the_shares_are_counted_and_the_others_named(self) -> None:
        rows = [(f"Question {n}?", (GERMAN if n % 10 == 3 else ENGLISH).format(n))
                for n in range(100)]  # fmt: skip
        context = looked_at(rows)
        output = next(mix for mix in mixes(context) if mix.part == "output")
        assert output.shares == {"en": 0.9, "de": 0.1}
        (finding,) = run("languages", context)
        assert (finding.severity, finding.count) == ("note", 10)
        assert "en 90.0%, de 10.0%" in finding.message
        assert finding.rows[0] == "train.csv row 4"

    def test_one_language_is_quiet(self) -> None:
        assert run("languages", looked_at(plain(100))) == []

    @pytest.mark.parametrize("text", ["", "ok", "12345 67890", "<div></div>", "http://a.b/c?d=e"])
    def test_what_is_too_short_to_tell(self, text: str) -> None:
        assert identify([text]) == [None]

    def test_scripts(self) -> None:
        texts = ["東京は日本の首都であり、世界最大の都市圏の一つとして知られています。",
                 "Этот пример показывает, что язык текста определяется правильно."]  # fmt: skip
        assert identify(texts) == ["ja", "ru"]


class TestEcho:
    def test_an_output_that_begins_with_the_whole_prompt(self) -> None:
        asked = "Name three things that float on water."
        rows = [*plain(50), (asked, f"name three things that float on water: {'wood ' * 5}")]
        (finding,) = run("prompt_echo", looked_at(rows))
        assert (finding.severity, finding.rows) == ("note", ("train.csv row 51",))

    @pytest.mark.parametrize(
        ("asked", "output"),
        [
            ("Name three things that float.", "Name tags float, as do corks and leaves, and wood."),
            ("Hi", "Hi there, how are you doing on this fine day?"),
            ("A long question that goes on for a while, does it not?", "A long question."),
            ("Name three things that float", "Name three things that floated: wood, cork, ice."),
        ],
    )
    def test_what_is_no_echo(self, asked: str, output: str) -> None:
        assert not echoes(asked, output)

    def test_a_translation_may_equal_its_input(self) -> None:
        rows = [("Restaurant Kilimanjaro, Berlin Mitte", "Restaurant Kilimanjaro, Berlin Mitte")]
        assert run("prompt_echo", looked_at(rows * 30, kind="translation")) == []


@pytest.mark.parametrize(
    ("text", "dated"),
    [
        ("As of 2021, the record stands at nine metres.", True),
        ("Today's date is the 5th.", True),
        ("My knowledge cutoff is September.", True),
        ("As of May, prices have risen.", True),
        ("It happened in 2021.", False),
        ("As of old, they met at the well.", False),
        ("Today many people use phones.", False),
    ],
)
def test_outputs_that_hang_on_the_day(text: str, dated: bool) -> None:
    found = run("todays_date", looked_at([*plain(60), ("q?", text)]))
    assert [f.severity for f in found] == (["note"] if dated else [])
    assert run("todays_date", looked_at([("q?", text)] * 9, kind="translation")) == []


class TestUngrounded:
    def test_facts(self) -> None:
        text = "In 1889 the tower by Gustave Eiffel rose to 300 metres. It stands in Paris, near 7."
        assert facts_of(text) == ["1889", "300", "Gustave Eiffel", "Paris"]

    def test_a_fact_of_the_prompt_is_not_foreign(self) -> None:
        context = looked_at([("When did Gustave Eiffel build it?", "It was by Eiffel in 1889.")])
        assert foreign_facts(context.splits.train[0]) == ["1889"]
        assert foreign_facts(context.splits.train[0], "It is about 1889.") == []

    def test_questions_without_a_passage_want_retrieval(self) -> None:
        rows = [(f"Who founded company number {n}?", f"It was Maria Kowalski in {1900 + n}.")
                for n in range(80)]  # fmt: skip
        (finding,) = run("ungrounded", looked_at(rows, kind="qa"))
        assert (finding.severity, finding.count) == ("warning", 80)
        assert "retrieval" in finding.fix
        assert run("ungrounded", looked_at(rows))[0].severity == "note"
        told = [(f"{asked} {answer}", answer) for asked, answer in rows]
        assert run("ungrounded", looked_at(told, kind="qa")) == []
        assert run("ungrounded", looked_at(rows, kind="qa", documents="folder")) == []


class TestPairs:
    def test_the_same_text_chosen_and_rejected(self) -> None:
        rows = [(f"q {n}", f"good {n}", {"rejected": f"bad! {n}" if n else " good 0 "})
                for n in range(20)]  # fmt: skip
        (finding,) = run("preference_pairs", looked_at(rows))
        assert (finding.count, finding.rows, finding.fixable) == (1, ("train.csv row 1",), True)

    def test_length_decides(self) -> None:
        rows = [(f"q {n}", "a long and winding answer " * 3, {"rejected": f"short {n}"})
                for n in range(40)]  # fmt: skip
        rows += [("q", "short", {"rejected": "a longer answer"})] * 10
        (finding,) = run("preference_pairs", looked_at(rows))
        assert (finding.severity, finding.count) == ("warning", 40)
        assert "The longer answer is the chosen one in 80% of 50 pairs" in finding.message
        even = [(f"q {n}", "ab" * (1 + n % 2), {"rejected": "cd" * (2 - n % 2)}) for n in range(60)]
        assert run("preference_pairs", looked_at(even)) == []

    @pytest.mark.parametrize(
        ("cell", "text"),
        [
            (" a ", "a"),
            ({"from": "gpt", "value": "a"}, "a"),
            ([{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}], "a"),
            (3, None),
            ([], None),
            ({"score": 1}, None),
        ],
    )
    def test_the_answer_in_a_cell(self, cell: object, text: str | None) -> None:
        assert answer_text(cell) == text

    def test_long_answers_of_a_pair_come_through_from_the_file(self, tmp_path: Path) -> None:
        from luthier.data.prepare import prepare
        from luthier.files import write_jsonl
        from luthier.task import Task

        rows = [{"q": f"question {n}", "chosen": f"{n} " * 200, "rejected": f"{n} " * 200}
                for n in range(40)]  # fmt: skip
        write_jsonl(tmp_path / "pairs.jsonl", rows)
        data = {"train": "pairs.jsonl", "input": "{{ q }}", "output": "{{ chosen }}"}
        task = Task.from_dict({"name": "t", "kind": "chat", "data": data},
                              path=tmp_path / "task.yaml")  # fmt: skip
        context = LintContext(task, prepare(task).splits)
        (finding,) = run("preference_pairs", context)
        assert finding.count == len(context.splits.train)


class TestLengthShortcut:
    def test_labels_that_the_length_gives_away(self) -> None:
        rows = [("word " * (20 + n % 7 if n % 2 else 60 + n % 9), "ab"[n % 2]) for n in range(240)]
        (finding,) = run(
            "length_shortcut", looked_at(rows, kind="classification", labels=("a", "b"))
        )
        assert finding.severity == "warning"
        assert "right on 100% of the training rows" in finding.message

    def test_lengths_that_say_nothing(self) -> None:
        rows = [("word " * (20 + n % 7), "ab"[n // 7 % 2]) for n in range(240)]
        context = looked_at(rows, kind="classification", labels=("a", "b"))
        assert run("length_shortcut", context) == []


class TestConcentration:
    def test_one_author_with_most_of_the_rows(self) -> None:
        rows = [(f"q {n}", f"a {n}", {"user": "ann" if n % 2 else f"u{n % 9}"}) for n in range(200)]
        (finding,) = run("concentration", looked_at(rows))
        assert (finding.severity, finding.count) == ("note", 100)
        assert "100 of 200 training rows (50%) have user = 'ann'" in finding.message

    def test_a_few_with_most_of_them(self) -> None:
        rows = [(f"q {n}", f"a {n}", {"author": f"top{n % 3}" if n < 180 else f"u{n // 2}"})
                for n in range(300)]  # fmt: skip
        (finding,) = run("concentration", looked_at(rows))
        assert "3 of 63 values of author have 180 of 300" in finding.message

    @pytest.mark.parametrize("value", ["{n}", "u{n10}"])
    def test_serial_numbers_and_equal_shares(self, value: str) -> None:
        rows = [(f"q {n}", f"a {n}", {"user": value.format(n=n, n10=n % 10)}) for n in range(200)]
        assert run("concentration", looked_at(rows)) == []


class TestContamination:
    ITEM = "the quick brown fox jumps over the lazy dog near the old stone bridge at noon today"

    def test_a_named_benchmark(self, tmp_path: Path) -> None:
        bench = [{"question": f"What of this: {self.ITEM}?", "options": ["a", "b"]}]
        (tmp_path / "bench.jsonl").write_text("\n".join(map(json.dumps, bench)))
        rows = [*plain(30), ("Say it.", f"Well, The QUICK {self.ITEM[10:]}, so there.")]
        context = looked_at(rows, data={"benchmarks": ["bench.jsonl"]}, path=tmp_path / "task.yaml")
        (finding,) = run("contamination", context)
        assert (finding.severity, finding.rows) == ("warning", ("train.csv row 31",))
        assert "bench.jsonl" in finding.message
        twelve = " ".join(self.ITEM.split()[:12])
        context = looked_at(
            [("q", twelve)], data={"benchmarks": ["bench.jsonl"]}, path=tmp_path / "task.yaml"
        )
        assert run("contamination", context) == []

    def test_a_benchmark_that_is_not_there(self, tmp_path: Path) -> None:
        context = looked_at(
            plain(3), data={"benchmarks": ["none.jsonl"]}, path=tmp_path / "task.yaml"
        )
        with pytest.raises(InputError, match=r"none\.jsonl"):
            run("contamination", context)

    def test_the_own_probes(self) -> None:
        from luthier.evaluation.forgetting import general_probes

        probe = max(general_probes(), key=lambda one: len(one.query.split()))
        assert len(probe.query.split()) >= 8
        (finding,) = run("contamination", looked_at([(probe.query, probe.choices[probe.gold])]))
        assert finding.count == 1 or "probes" in finding.message


class TestPromptTokens:
    @staticmethod
    def rendered(ids: list[int], trained: list[bool]) -> LintContext:
        row = Rendered(ids, trained, frozenset([1]), frozenset([2]))
        return looked_at(plain(10), context={"render": lambda example: row})

    def test_rows_as_they_should_be(self) -> None:
        assert (
            run("prompt_tokens", self.rendered([1, 5, 6, 2, 7], [False] * 2 + [True] * 2 + [False]))
            == []
        )

    def test_two_beginnings(self) -> None:
        (finding,) = run("prompt_tokens", self.rendered([1, 1, 6, 2], [False, False, True, True]))
        assert finding.severity == "error" and "two beginning-of-sequence" in finding.message

    def test_no_end_that_is_trained(self) -> None:
        (finding,) = run("prompt_tokens", self.rendered([1, 5, 6, 2], [False, False, True, False]))
        assert finding.severity == "error" and "never learn to stop" in finding.message


def test_answers_longer_than_may_be_written() -> None:
    context = looked_at(
        plain(5),
        test=[("q", "one two three four"), ("q", "one")],
        generation={"max_new_tokens": 3},
        context={"count_tokens": lambda e: (1, len(e.output.split())), "context_length": 100},
    )
    (finding,) = run("overlong", context)
    assert (finding.severity, finding.rows) == ("warning", ("test.csv row 1",))


def test_one_of_several_right_answers_that_can_be_written_is_enough() -> None:
    def found(kind: str) -> list[str]:
        context = looked_at(
            plain(5),
            kind=kind,
            test=[("q", '["one two three four", "two words"]'), ("q", '["one two three four"]')],
            generation={"max_new_tokens": 3},
            context={"count_tokens": lambda e: (1, len(e.output.split())), "context_length": 100},
        )
        return [row for finding in run("overlong", context) for row in finding.rows]

    assert found("qa") == ["test.csv row 2"]
    assert len(found("generation")) == 2  # there the list itself is what is wanted


def test_a_sample_is_the_same_each_time_and_says_so() -> None:
    context = looked_at(plain(50))
    assert context.sample("train").said == ""
    drawn = context.sample("train", 10)
    assert drawn.said == " in a sample of 10 rows" and drawn.of == 50
    assert drawn.examples == looked_at(plain(50)).sample("train", 10).examples
    assert [e.id for e in drawn.examples] == sorted(
        (e.id for e in drawn.examples), key=lambda name: int(name.split("-")[1])
    )
