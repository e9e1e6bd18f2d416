"""What training knows of the test: near-duplicates, later rows, the same people."""

from __future__ import annotations

from lint_samples import Pair, looked_at, run

TEXT = "the old ferry to the island leaves at {} and needs about an hour in calm weather {}"
HOURS = ["six", "seven", "eight", "nine", "ten", "noon", "one", "two", "three", "four"]


def apart(count: int, name: str) -> list[Pair]:
    """Rows that are unlike each other."""
    return [(f"{name}{n} {n * 7919:x} {name * 2}{n * 104729:x} of {name}{n}", f"it is {name} {n}")
            for n in range(count)]  # fmt: skip


class TestNear:
    def test_a_test_row_that_differs_in_a_word_from_training(self) -> None:
        train = [*apart(60, "a"), (TEXT.format("six", "here"), "a boat")]
        test = [*apart(99, "b"), (TEXT.format("noon", "here"), "a boat")]
        (finding,) = run("leakage", looked_at(train, test=test))
        assert (finding.lint, finding.severity, finding.count) == ("near_leakage", "note", 1)
        assert finding.rows == ("test.csv row 100",) and "train.csv row 61" in finding.message
        few = looked_at(train, test=test[-20:])
        assert run("leakage", few)[0].severity == "warning"

    def test_training_rows_that_differ_in_a_word(self) -> None:
        rows = [*apart(60, "a"), *((TEXT.format(hour, "here"), hour) for hour in HOURS)]
        (finding,) = run("duplicates", looked_at(rows))
        assert (finding.lint, finding.severity, finding.count) == ("near_duplicates", "note", 9)
        assert not finding.fixable and "train.csv row 62" in finding.rows
        (finding,) = run("duplicates", looked_at(rows[50:]))
        assert finding.severity == "warning"

    def test_rows_unlike_each_other(self) -> None:
        context = looked_at(apart(60, "a"), test=apart(60, "b"))
        assert run("leakage", context) == run("duplicates", context) == []


class TestTime:
    def dated(self, name: str, days: range) -> list[Pair]:
        return [(q, a, {"day": f"2024-03-{day:02}"})
                for (q, a), day in zip(apart(len(days), name), days, strict=True)]  # fmt: skip

    def test_test_rows_older_than_training(self) -> None:
        train, test = self.dated("a", range(1, 20)), self.dated("b", range(15, 25))
        context = looked_at(train, test=test, data={"split": {"time": "day"}})
        (finding,) = run("time_leakage", context)
        assert (finding.severity, finding.count) == ("warning", 4)
        assert finding.rows[0] == "test.csv row 1"

    def test_newer_ones_and_no_column(self) -> None:
        train, test = self.dated("a", range(1, 20)), self.dated("b", range(20, 28))
        assert (
            run("time_leakage", looked_at(train, test=test, data={"split": {"time": "day"}})) == []
        )
        assert run("time_leakage", looked_at(test, test=train)) == []


class TestEntities:
    def by(self, name: str, count: int, people: int, first: int = 0) -> list[Pair]:
        return [(q, a, {"author": f"author {first + n % people}"})
                for n, (q, a) in enumerate(apart(count, name))]  # fmt: skip

    def test_people_on_both_sides(self) -> None:
        context = looked_at(self.by("a", 60, 20), test=self.by("b", 40, 20, first=10))
        (finding,) = run("shared_entities", context)
        assert (finding.severity, finding.count) == ("note", 20)
        assert "`data.group: author`" in finding.fix

    def test_other_people_and_a_group_that_is_named(self) -> None:
        train = self.by("a", 60, 20)
        assert run("shared_entities", looked_at(train, test=self.by("b", 40, 20, first=20))) == []
        grouped = looked_at(train, test=self.by("b", 40, 20), data={"group": "author"})
        assert run("shared_entities", grouped) == []

    def test_a_value_a_row_is_a_number_and_few_values_are_a_kind(self) -> None:
        for people in (60, 5):
            context = looked_at(self.by("a", 60, people), test=self.by("b", 40, people))
            assert run("shared_entities", context) == []
