"""Lints: what they find, how they grade it, and that clean data stay clean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.examples import Example, Message, Splits
from luthier.data.folding import fold
from luthier.data.linting import LINTS, Finding, LintContext, lint
from luthier.data.lints.deferrals import says_nothing
from luthier.data.lints.encoding import mojibake
from luthier.task import Task

Pair = tuple[str, str]


def examples(name: str, pairs: Sequence[Pair | tuple[str, str, str]]) -> tuple[Example, ...]:
    return tuple(
        Example(
            f"{name}{n}",
            (Message("user", pair[0]),),
            pair[1],
            pair[2] if len(pair) == 3 else None,
            f"{name}.csv row {n}",
        )
        for n, pair in enumerate(pairs, 1)
    )


def clean(name: str, count: int) -> list[Pair]:
    """Rows with nothing wrong: distinct inputs, distinct answers of a few words."""
    return [
        (f"What does {name} {n} stand for?", f"It stands for {name} {n}.") for n in range(count)
    ]


def found(
    train: Sequence[Any] | None = None,
    validation: Sequence[Any] | None = None,
    test: Sequence[Any] | None = None,
    *,
    kind: str = "generation",
    labels: tuple[str, ...] | None = None,
    context: dict[str, Any] | None = None,
    **task: Any,
) -> list[Finding]:
    made = Task.from_dict(
        {
            "name": "t",
            "kind": kind,
            "data": {"train": "t", "input": "{{ q }}", "output": "{{ a }}", "group": "thread"},
            **task,
        }
    )
    splits = Splits(
        examples("train", clean("alpha", 100) if train is None else train),
        examples("validation", clean("beta", 30) if validation is None else validation),
        examples("test", clean("gamma", 200) if test is None else test),
    )
    return lint(LintContext(made, splits, labels, **(context or {})))


def only(findings: list[Finding], name: str) -> Finding:
    assert [finding.lint for finding in findings] == [name]
    return findings[0]


def test_clean_data_have_no_findings() -> None:
    assert found() == []
    assert found(kind="qa") == []
    labelled = [(f"text {n}", "ab"[n % 2]) for n in range(100)]
    held = [(f"held {n}", "ab"[n % 2]) for n in range(30)]
    test = [(f"test {n}", "ab"[n % 2]) for n in range(100)]
    assert found(labelled, held, test, kind="classification", labels=("a", "b")) == []


def test_every_lint_is_registered() -> None:
    assert set(LINTS.names()) >= {
        "brevity", "class_balance", "concentration", "contamination", "contradictions", "deferrals",
        "duplicates", "encoding", "few_rows", "label_noise", "languages", "leakage",
        "length_shortcut", "ngram_leakage", "overlong", "pii", "placeholders", "preference_pairs",
        "prompt_echo", "prompt_tokens", "relatedness", "secrets", "shared_entities",
        "shared_groups", "target_use", "template_tokens", "time_leakage", "todays_date", "unfit",
        "ungrounded", "wanted_length",
    }  # fmt: skip


def test_findings_are_sorted_and_become_plain() -> None:
    train = [*clean("alpha", 100), ("What does gamma 1 stand for?", "TODO")]
    findings = found(train, None, clean("gamma", 20))
    assert [f.severity for f in findings] == sorted(
        (f.severity for f in findings), key=["error", "warning", "note"].index
    )
    assert {f.lint for f in findings} == {"leakage", "placeholders", "few_rows", "contradictions"}
    plain = findings[0].to_dict()
    assert list(plain) == ["lint", "severity", "count", "rows", "message", "fix", "fixable"]
    assert isinstance(plain["rows"], list)


def test_leakage_sees_through_case_space_and_punctuation() -> None:
    train = [*clean("alpha", 100), ("what DOES  gamma 1, stand for", "It stands for gamma 1.")]
    finding = only(found(train), "leakage")
    assert (finding.severity, finding.count, finding.rows) == ("warning", 1, ("test.csv row 2",))
    assert "test.csv row 2 as train.csv row 101" in finding.message
    assert "1 test input (under 1 %) is also in training" in finding.message


def test_much_leakage_is_an_error() -> None:
    finding = only(found([*clean("alpha", 100), *clean("gamma", 10)]), "leakage")
    assert (finding.severity, finding.count) == ("error", 10)
    finding = only(found([*clean("alpha", 100), *clean("beta", 10)]), "leakage")
    assert (finding.severity, finding.count) == ("warning", 10)
    assert "validation inputs" in finding.message


def test_a_finding_names_at_most_twenty_rows() -> None:
    finding = only(found([*clean("alpha", 100), *clean("gamma", 50)]), "leakage")
    assert finding.count == 50
    assert len(finding.rows) == 20


def test_shared_groups() -> None:
    grouped = [(q, a, f"g{n}") for n, (q, a) in enumerate(clean("alpha", 100))]
    test = [(q, a, f"g{n + 97}") for n, (q, a) in enumerate(clean("gamma", 200))]
    finding = only(found(grouped, None, test), "shared_groups")
    assert (finding.severity, finding.count) == ("error", 3)
    assert "3 test rows (2 %) belong to 3 groups of 'thread'" in finding.message


def test_duplicates_within_train() -> None:
    twice = ("what does alpha 5 stand for", "it stands for alpha 5")
    finding = only(found([*clean("alpha", 100), twice, twice]), "duplicates")
    assert (finding.severity, finding.count) == ("note", 2)
    assert finding.rows == ("train.csv row 101", "train.csv row 102")
    assert "stands 3 times" in finding.message
    assert finding.fixable  # two of the three are alike to the letter
    other = only(found([*clean("alpha", 100), twice]), "duplicates")
    assert other.count == 1 and not other.fixable
    finding = only(found([*clean("alpha", 90), *clean("alpha", 10)]), "duplicates")
    assert finding.severity == "warning"


def test_contradictions_are_mistakes_where_one_answer_is_right() -> None:
    labelled = [(f"text {n}", "ab"[n % 2]) for n in range(100)] + [("Text 4!", "b")]
    test = [(f"test {n}", "ab"[n % 2]) for n in range(100)]
    several = found(labelled, test[:30], test, kind="classification", labels=("a", "b"))
    finding = next(f for f in several if f.lint == "contradictions")
    assert (finding.severity, finding.count) == ("warning", 2)
    assert "'text 4' has 'a' (train.csv row 5) and 'b' (train.csv row 101)" in finding.message
    several = [*clean("alpha", 100), ("What does alpha 5 stand for?", "For the fifth alpha.")]
    assert only(found(several), "contradictions").severity == "note"


def classes(**counts: int) -> list[Pair]:
    return [(f"{name} text {n}", name) for name, count in counts.items() for n in range(count)]


def balance(train: list[Pair], validation: list[Pair], test: list[Pair]) -> list[Finding]:
    renamed = [[(f"{part} {q}", a) for q, a in rows] for part, rows in
               (("t", train), ("v", validation), ("x", test))]  # fmt: skip
    return found(*renamed, kind="classification", labels=("a", "b", "c"))


def test_classes_missing_or_rare() -> None:
    full = classes(a=40, b=40, c=40)
    assert balance(full, full, full) == []
    finding = only(balance(classes(a=40, b=40), full, full), "class_balance")
    assert (finding.severity, finding.count) == ("warning", 1)
    assert "1 label has no training row: c." in finding.message
    assert "40 test rows will be wrong" in finding.message
    finding = only(balance(full, full, classes(a=60, b=60)), "class_balance")
    assert "1 label has no row in test: c. The result will say nothing" in finding.message
    finding = only(balance(full, classes(a=5, b=5), full), "class_balance")
    assert finding.severity == "note"
    finding = only(balance(classes(a=40, b=40, c=4), full, full), "class_balance")
    assert "1 label has fewer than 5 training rows: c (4)." in finding.message
    assert len(finding.rows) == 4


def test_a_class_that_outweighs_all_is_a_baseline_to_know() -> None:
    full = classes(a=40, b=40, c=40)
    finding = only(balance(full, full, classes(a=160, b=20, c=20)), "class_balance")
    assert (finding.severity, finding.count) == ("note", 160)
    assert "80 % of the test rows have the label 'a'" in finding.message
    assert "reaches an accuracy of 0.80" in finding.message
    finding = only(balance(full, full, classes(a=190, b=5, c=5)), "class_balance")
    assert finding.severity == "warning"


def test_few_rows() -> None:
    finding = only(found(None, None, clean("gamma", 64)), "few_rows")
    # 1.96 * sqrt(0.25 / 64) = 12.25 points
    assert "uncertain by about 12 points" in finding.message
    assert finding.severity == "note"
    assert only(found(None, None, clean("gamma", 49)), "few_rows").severity == "warning"
    assert "20 training rows" in only(found(clean("alpha", 20)), "few_rows").message


def words(example: Example) -> tuple[int, int]:
    return len(example.input.split()), len(example.output.split())


LONG = [*clean("alpha", 100), ("why " * 30, "because")]


def test_overlong_rows_need_a_tokenizer() -> None:
    assert found(LONG, context={"context_length": 20}) == []
    assert found(LONG, context={"context_length": 31, "count_tokens": words}) == []


@pytest.mark.parametrize(
    ("how", "severity", "said"),
    [
        ("error", "error", "Training stops at them"),
        ("drop", "warning", "They will be left out of training"),
        ("cut", "warning", "They will be cut at the start"),
    ],
)
def test_overlong_training_rows(how: str, severity: str, said: str) -> None:
    finding = only(
        found(
            LONG,
            training={"max_tokens": 20, "overlong": how},
            context={"context_length": 4096, "count_tokens": words},
        ),
        "overlong",
    )
    assert (finding.severity, finding.rows) == (severity, ("train.csv row 101",))
    assert "more than the 20 tokens of `training.max_tokens`" in finding.message
    assert "the longest takes 31 (train.csv row 101)" in finding.message
    assert said in finding.message


def test_overlong_test_rows_are_held_to_the_context_alone() -> None:
    test = [*clean("gamma", 200), ("why " * 30, "because")]
    counted = {"count_tokens": words, "context_length": 25}
    finding = only(found(None, None, test, context=counted), "overlong")
    assert (finding.severity, finding.rows) == ("error", ("test.csv row 201",))
    assert "the 25 tokens of the model's context" in finding.message
    assert (
        found(None, None, test, context={"count_tokens": words}, training={"max_tokens": 20}) == []
    )


@pytest.mark.parametrize(
    "mark",
    ["<|im_start|>user", "x [INST] y", "<start_of_turn>model", "<|eot_id|>", "<<SYS>>", "hi</s>",
     "<bos>hi", "<|endoftext|>"],
)  # fmt: skip
@pytest.mark.parametrize("part", ["input", "output"])
def test_template_tokens(mark: str, part: str) -> None:
    row = (mark, "An answer.") if part == "input" else ("A question?", mark)
    finding = only(found([*clean("alpha", 100), row]), "template_tokens")
    assert finding.rows == ("train.csv row 101",)
    assert f"in the {part}" in finding.message


def test_role_labels_are_marks_in_outputs_only() -> None:
    for text in ("Assistant: yes", "Yes.\nUser: and then?", "### Response: yes"):
        assert only(found([*clean("alpha", 100), ("q?", text)]), "template_tokens").count == 1
        assert found([*clean("alpha", 100), (text, "An answer.")]) == []
    for text in ("a <b>bold</b> and <s>struck</s> word", "if a <|b and c|> d", "User: I said so"):
        assert found([*clean("alpha", 100), ("q?", text)]) == []


@pytest.mark.parametrize(
    "text", ["café", "l’été « déjà »", "naïve", "Grüße", "日本語", "“quoted” – so"]
)
def test_mojibake_is_seen_and_clean_text_is_not(text: str) -> None:
    assert mojibake(text) is None
    broken = "".join(
        bytes([byte]).decode("cp1252", errors="ignore") or chr(byte) for byte in text.encode()
    )
    assert mojibake(broken) is not None
    finding = only(found([*clean("alpha", 100), (broken, "An answer.")]), "encoding")
    assert finding.rows == ("train.csv row 101",)


@pytest.mark.parametrize(
    "text", ["NÃO É", "IRMÃ", "Âge", "£5 Â", "»OMÄ«", "LIBERTÉ\u00a0!", "São", "½ ÷ ×", "à la"]
)
def test_letters_that_look_like_mojibake(text: str) -> None:
    assert mojibake(text) is None


def test_replacement_and_control_characters() -> None:
    assert only(found([*clean("alpha", 100), ("caf\ufffd", "An answer.")]), "encoding").count == 1
    assert only(found([*clean("alpha", 100), ("q", "bell \x07 rings")]), "encoding").count == 1
    assert found([*clean("alpha", 100), ("tab\tand\nline", "An\r\nanswer.")]) == []


@pytest.mark.parametrize(
    "output", ["TODO", "todo.", "N/A", "n/a", "lorem ipsum", "...", "-", "xxx", "TBD", "null",
               "[insert answer here]", "TODO: write this", "Lorem ipsum dolor sit amet, and on"]
)  # fmt: skip
def test_placeholders(output: str) -> None:
    finding = only(found([*clean("alpha", 100), ("A question?", output)]), "placeholders")
    assert finding.rows == ("train.csv row 101",)


@pytest.mark.parametrize(
    ("kind", "output"),
    [
        ("classification", "N/A"),
        ("ner", "none"),
        ("extraction", "null"),
        ("extraction", "{}"),
        ("qa", "none"),
        ("qa", "42"),
        ("generation", "Nothing to do today."),
        ("generation", "🙂"),
        ("generation", "+"),
        ("generation", "Nan is a city in Thailand."),
    ],
)
def test_what_is_no_placeholder(kind: str, output: str) -> None:
    findings = found([*clean("alpha", 100), ("A question?", output)], kind=kind)
    assert "placeholders" not in {f.lint for f in findings}


@pytest.mark.parametrize(
    "output",
    [
        "I shall work on that in the morning",
        "Sure, I shall work on that in the morning.",
        "ok",
        "OK!",
        "Sure.",
        "will do",
        "Thanks",
        "I'll get back to you",
        "I'll look into it",
        "Let me check that and send it tomorrow",
        "we will fix it next week",
        "As an AI language model, I do not have opinions. " + "But there is much to say. " * 20,
        "I'm sorry, but I can't help with that.",
    ],
)
def test_deferrals_and_other_answers_that_say_nothing(output: str) -> None:
    assert says_nothing(output)
    finding = only(found([*clean("alpha", 100), ("Do it?", output)], kind="chat"), "deferrals")
    assert (finding.severity, finding.count) == ("note", 1)


@pytest.mark.parametrize(
    "output",
    [
        "yes",
        "Paris",
        "The oven should be checked later.",
        "I will always love you.",
        "Okay, the three steps are these: mix, bake, eat.",
        "She said that she would start the work in the morning.",
        "Thank you for your order, which left our house today.",
    ],
)
def test_answers_that_say_something(output: str) -> None:
    assert not says_nothing(output)


def test_many_deferrals_are_a_warning_and_labels_are_none() -> None:
    train = [*clean("alpha", 97), ("a?", "ok"), ("b?", "sure"), ("c?", "I'll look into that")]
    assert only(found(train, kind="chat"), "deferrals").severity == "warning"
    assert found([*clean("alpha", 100), ("d'accord", "ok")], kind="translation") == []


def test_outputs_of_another_length_than_wanted() -> None:
    wish = ["word " * 40, "word " * 50, "word " * 60]
    both = {f.lint: f for f in found(wanted=wish)}
    assert set(both) == {"wanted_length", "target_use"}
    finding = both["wanted_length"]
    assert (finding.severity, finding.count) == ("warning", 100)
    assert "much shorter" in finding.message
    assert "5 words in the middle against 50" in finding.message
    long = [(f"question {n}", f"{n} " + "word " * 49) for n in range(100)]
    findings = {f.lint: f for f in found(long, wanted=["five words are enough here"])}
    assert "much longer" in findings["wanted_length"].message
    assert found(wanted=["It stands for gamma.", "It stands for something else."]) == []
    short = [(f"question {n}", f"{n}") for n in range(100)]
    assert "wanted_length" not in {f.lint for f in found(short, wanted=["two words"])}


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("What is it?", "what is it"),
        ("don't", "dont"),
        ("a,b", "a b"),
        ("ﬁne  text\n", "fine text"),
        ("STRASSE", "straße"),
        ("“Yes” – he said…", "yes he said"),
        ("「京都」は、古い。", "京都 は 古い"),
    ],
)
def test_texts_that_say_the_same(one: str, two: str) -> None:
    assert fold(one) == fold(two)


@pytest.mark.parametrize(
    ("one", "two"),
    [
        ("1.5", "15"),
        ("-3", "3"),
        ("C", "C#"),
        ("C", "C++"),
        ("a<b", "a>b"),
        ("?", "!"),
        ("5 %", "5"),
    ],
)
def test_texts_that_do_not_say_the_same(one: str, two: str) -> None:
    assert fold(one) != fold(two)


@settings(deadline=None)
@given(st.text(st.characters(codec="ascii")))
def test_folding_again_changes_nothing(text: str) -> None:
    assert fold(fold(text)) == fold(text) == fold(text.upper())
