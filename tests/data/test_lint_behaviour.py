"""Would a model learn what is wanted? The four signs, and what they say together."""

from __future__ import annotations

import html
import itertools
import random
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lint_samples import Pair, looked_at, run

from luthier.data import style
from luthier.data.linting import LintContext, lint
from luthier.data.lints import brevity, deferrals, relatedness, target_use, unfit
from luthier.data.prepare import prepare
from luthier.task import Task

DATA = Path(__file__).parents[3] / "shared" / "data"
INSTRUCTION = "Write a 500 word blog post about the given topic."
WANTED = [
    """Every spring the community garden on Harbour Street wakes up a little before the rest of
the city does. The first volunteers arrive while there is still frost on the paths, and they bring
thermos flasks, seed catalogues and a great many opinions about compost.

Gardening in a city is mostly an exercise in patience. The soil is thin, the light is borrowed from
between tall buildings, and the nearest tap is sixty metres away. Yet these limits teach good
habits: when water has to be carried by hand, you learn to mulch, and when space is short, you learn
to grow upwards.""",
    """Remote work was supposed to free us from the office, and in many ways it has kept that
promise. The commute has vanished, the calendar has softened, and lunch can be eaten from a proper
plate. But the freedom has a price, which is paid in small instalments of attention.

The trouble begins with boundaries. In an office, the day has edges: a door that closes, a train
that leaves, a colleague who puts on her coat. At home, the laptop sits within reach at nine in the
evening, glowing like a second fridge. Without a ritual to end the day, the day does not end.""",
    """Few kitchen skills repay the effort as generously as learning to bake bread. Flour, water,
salt and time are all that a loaf asks for, and of these only time is expensive. A beginner's first
loaf is usually dense, pale and eaten with great pride, and it is a perfect teacher.

Start with the temperature of the dough, not of the oven. Warm dough rises quickly and tastes of
little; cool dough takes its time and develops the faint sourness that makes people ask which bakery
you went to. Then listen to the crust, and wait for the song to end before you cut it.""",
]
THINGS = ["bridge", "river", "engine", "garden", "violin", "harbour", "window", "market", "orchard",
          "lantern", "saddle", "compass", "kettle", "ladder", "meadow", "anchor", "basket",
          "chimney", "feather", "glacier"]  # fmt: skip


def essays(count: int) -> list[Pair]:
    """Prompts with answers of several sentences about what was asked."""
    rows = []
    for n in range(count):
        one, two = THINGS[n % 20], THINGS[(n * 7 + n // 20 + 3) % 20]
        text = (
            f"The {one} has always stood beside the {two}, and number {n} of its kind is no "
            f"exception. People who visit the {one} for the first time are surprised by how quiet "
            f"it is, and they stay longer than they had planned.\n\nIt takes patience to keep a "
            f"{two} in order. Each year somebody paints it, counts what is missing, and writes "
            "it down, so that those who come later know what was done."
        )
        rows.append((f"Tell me about the {one} and the {two}, number {n}.", text))
    return rows


def chat(count: int) -> list[Pair]:
    """Lines of a talk, each answered by the next line of somebody else, mostly beside the point."""
    chance = random.Random(5)
    said = ["ok thanks", "sure, I'll look into that tomorrow", "hm", "did you see the {} yet?",
            "the {} broke again", "no idea about the {}, ask anna", "lol the {}",
            "I think the {} is fine now", "brb", "what about a new {}?"]  # fmt: skip

    def line() -> str:
        return chance.choice(said).format(chance.choice(THINGS))

    return [(f"{line()} ({n})", line()) for n in range(count)]


def wish(**changes: Any) -> dict[str, Any]:
    return {"instruction": INSTRUCTION, "wanted": WANTED, **changes}


class TestTogether:
    def test_a_chat_log_offered_as_essays_is_refused_with_the_evidence(self) -> None:
        findings = lint(looked_at(chat(400), **wish()))
        first = findings[0]
        assert (first.lint, first.severity, first.count) == ("unfit", "error", 400)
        assert first.message.startswith("Do not fine-tune on this: 4 of 4 signs")
        for said in ("Brevity: outputs have", "the instruction asks for 500", "Deferrals:",
                     "Unrelated replies:", "Target mismatch:"):  # fmt: skip
            assert said in first.message
        assert first.rows

    def test_essays_on_what_was_asked_are_not(self) -> None:
        found = lint(looked_at(essays(300), instruction="Write a text.", wanted=WANTED))
        assert "unfit" not in {finding.lint for finding in found}

    def test_short_answers_to_the_point_are_not(self) -> None:
        rows = [(f"Name the colour of {thing} {n}.", f"The {thing} {n} is red.")
                for n, thing in enumerate(THINGS * 10)]  # fmt: skip
        assert unfit.signs_of(looked_at(rows)) == []

    def test_where_nothing_says_what_is_wanted_the_other_three_must_agree(self) -> None:
        assert run("unfit", looked_at(chat(400), kind="chat"))
        talk = [(asked, f"About {asked}: {said}") for asked, said in chat(400)]
        assert not run("unfit", looked_at(talk, kind="chat"))

    def test_labels_and_translations_are_left_alone(self) -> None:
        for kind in ("classification", "translation", "ner", "extraction"):
            assert not unfit.signs_of(looked_at(chat(200), kind=kind))


class TestTargetUse:
    def test_the_mean_rank_is_that_of_the_definition(self) -> None:
        chance = np.random.default_rng(1)
        had, wanted = chance.normal(size=(50, 3)), chance.normal(size=(3, 3)) + 1
        ranks = []
        for i in range(3):
            direction = np.mean([wanted[j] for j in range(3) if j != i], axis=0)
            ranks.append(np.mean([row @ direction < wanted[i] @ direction for row in had]))
        assert target_use._area(had, wanted) == pytest.approx(np.mean(ranks))

    def test_outputs_of_the_same_kind_are_not_told_apart(self) -> None:
        rows = essays(300)
        found = target_use.measure(looked_at(rows, wanted=[rows[5][1], rows[77][1], rows[123][1]]))
        assert found is not None and not found.mismatch

    def test_wanted_outputs_drawn_from_the_rows_are_seldom_called_another_kind(self) -> None:
        rows = chat(300)
        chance = random.Random(0)
        called = 0
        for _ in range(25):
            own = [rows[i][1] for i in chance.sample(range(300), 2)]
            found = target_use.measure(looked_at(rows, wanted=own))
            called += bool(found and found.mismatch)
        assert called == 0  # 25 tests at p <= 0.001

    @pytest.mark.parametrize("wanted", [WANTED[:1], WANTED[:2], WANTED, WANTED * 4])
    def test_another_kind_is_told_from_one_wanted_output_on(self, wanted: list[str]) -> None:
        found = target_use.measure(looked_at(chat(400), wanted=wanted))
        assert found is not None and found.mismatch
        assert (found.area, found.wanted) == (pytest.approx(1.0, abs=0.01), len(wanted))
        assert "length" in {name for name, _, _ in found.traits}
        assert (
            "Training outputs are another kind"
            in run("target_use", looked_at(chat(400), wanted=wanted))[0].message
        )

    def test_many_times_the_length_is_another_kind_whatever_else(self) -> None:
        rows = [(f"q {n}", f"So we did thing {n} and went on with it.") for n in range(300)]
        for times, kind in ((2, False), (8, True)):
            wanted = [" ".join(rows[k + i][1] for i in range(times)) for k in (0, 50)]
            found = target_use.measure(looked_at(rows, wanted=wanted))
            assert found is not None and found.factor == pytest.approx(times)
            assert {name for name, _, _ in found.traits} == {"length"}
            assert found.mismatch is kind

    def test_traits_of_a_text(self) -> None:
        held = dict(zip((t.name for t in style.TRAITS),
                        style.measure("Yes, I did. no way!\n\nBUT why?"), strict=True))  # fmt: skip
        assert held["length"] == pytest.approx(np.log(7))
        assert held["paragraphs"] == pytest.approx(np.log(2))
        assert held["sentences that begin with a capital"] == pytest.approx(2 / 3)
        assert held["sentences that end with a mark"] == 1
        assert held["questions and exclamations among sentences"] == pytest.approx(2 / 3)
        assert held["commas to a word"] == pytest.approx(1 / 7)
        assert held["I, you and we"] == pytest.approx(1 / 7)

    @pytest.mark.parametrize("text", ["", " ", "...", "\n\n", "日本語", "¡", "5", "- a\n- b"])
    def test_traits_of_odd_texts_are_numbers(self, text: str) -> None:
        assert np.isfinite(style.measure(text)).all()


class TestRelatedness:
    def test_matched_pairs_stand_out_and_shuffled_ones_do_not(self) -> None:
        rows = essays(300)
        found = relatedness.measure(looked_at(rows))
        assert found is not None and found.area > 0.95 and found.p == 0.001 and not found.loose
        answers = [answer for _, answer in rows]
        random.Random(0).shuffle(answers)
        mixed = looked_at([(q, a) for (q, _), a in zip(rows, answers, strict=True)])
        found = relatedness.measure(mixed)
        assert found is not None and found.loose
        assert 0.4 < found.area < 0.6 and found.p > 0.01 and abs(found.effect) < 0.3
        (finding,) = run("relatedness", mixed)
        assert finding.severity == "warning" and "might as well be shuffled" in finding.message

    def test_an_encoder_is_asked_before_anything_is_said(self) -> None:
        rows = [(f"{thing} {n}", f"{'abcdefgh'[n % 8] * 5}{'klmnop'[n % 6] * 4}{n * 7919:x}")
                for n, thing in enumerate(THINGS * 5)]  # fmt: skip
        asked: list[int] = []

        def embed(texts: Any) -> Any:
            asked.append(len(texts))
            return np.eye(len(texts))  # row i means the same as row i

        assert run("relatedness", looked_at(rows))
        assert not run("relatedness", looked_at(rows, context={"embed": embed}))
        assert asked == [100, 100]
        asked.clear()
        assert not run("relatedness", looked_at(essays(100), context={"embed": embed}))
        assert asked == []

    def test_few_distinct_answers_are_no_replies(self) -> None:
        assert relatedness.measure(looked_at([(f"q {n}", "ab"[n % 2]) for n in range(100)])) is None


class TestBrevity:
    @pytest.mark.parametrize(
        ("instruction", "words"),
        [
            (INSTRUCTION, 500),
            ("Write 1,200 words.", 1200),
            ("A 300-word summary, please.", 300),
            ("Answer in at most 50 words.", None),
            ("Use up to 100 words.", None),
            ("Answer in fewer than 30 words.", None),
            ("Say it in one word.", None),
            ("", None),
        ],
    )
    def test_the_length_that_is_asked_for(self, instruction: str, words: int | None) -> None:
        task = looked_at([], instruction=instruction).task
        assert brevity.asked_words(task)[0] == words

    def test_outputs_under_half_of_it(self) -> None:
        rows = [(f"q {n}", "word " * (600 if n % 4 == 0 else 100)) for n in range(40)]
        (finding,) = run("brevity", looked_at(rows, instruction=INSTRUCTION))
        assert (finding.severity, finding.count) == ("warning", 30)
        assert "asks for 500 words, and training outputs have 100 in the middle" in finding.message
        assert not run("brevity", looked_at([(f"q {n}", "word " * 400) for n in range(40)],
                                            instruction=INSTRUCTION))  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["ah, thanks.", "<@Bob> ok cool :smile:", "Oh! Right.", "that makes sense, thank you", "lol",
     "no worries!", "hmmm, great point", "Thanks @anna"],
)  # fmt: skip
def test_chat_that_only_acknowledges(text: str) -> None:
    assert deferrals.says_nothing(text)


@pytest.mark.parametrize(
    "text",
    ["the problem", "It is in the cool room.", "See you at noon.", "no", "It was a good idea.",
     "As an AI assistant, I'd be happy to help: first, mix the flour.", "Thank the cook first."],
)  # fmt: skip
def test_short_answers_that_say_something(text: str) -> None:
    assert not deferrals.says_nothing(text)


def test_a_question_about_a_text_may_be_answered_by_thanks() -> None:
    rows = [("What did she say?", "thanks")] * 30
    assert not run("deferrals", looked_at(rows, kind="qa"))
    assert run("deferrals", looked_at(rows, kind="chat"))


def slack_pairs() -> list[dict[str, str]]:
    """Each message of a conversation with the next one of another user."""
    talks: dict[str, list[tuple[str, str]]] = {}
    for message in ElementTree.parse(DATA / "slack" / "racket-2018.xml").iter("message"):
        text = html.unescape(message.findtext("text") or "").strip()
        talk = talks.setdefault(message.get("conversation_id") or "", [])
        talk.append((message.findtext("user") or "", text))
    return [
        {"conversation": name, "prompt": one[1], "response": two[1]}
        for name, talk in talks.items()
        for one, two in itertools.pairwise(talk)
        if one[0] != two[0] and one[1] and two[1]
    ]


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")
@pytest.mark.parametrize("wanted", [2, 3])
def test_the_slack_case(tmp_path: Path, wanted: int) -> None:
    from luthier.files import write_jsonl

    write_jsonl(tmp_path / "slack.jsonl", slack_pairs())
    task = Task.from_dict(
        {
            "name": "blog",
            "kind": "generation",
            "instruction": INSTRUCTION,
            "wanted": WANTED[:wanted],
            "data": {"train": "slack.jsonl", "input": "{{ prompt }}", "output": "{{ response }}",
                     "group": "conversation"},
        },
        path=tmp_path / "task.yaml",
    )  # fmt: skip
    prepared = prepare(task)
    context = LintContext(task, prepared.splits)
    assert {sign.name for sign in unfit.signs_of(context)} == {
        "brevity", "deferrals", "relatedness", "target_use",
    }  # fmt: skip
    (finding,) = run("unfit", context)
    assert finding.severity == "error"
    put_off, near = deferrals.measure(context), relatedness.measure(context)
    assert put_off is not None and 0.04 < put_off.share < 0.09
    assert near is not None and 0.55 < near.area < 0.75 and near.p == 0.001


CLEAN = {
    "alpaca": ("generation", {"train": "instructions/alpaca_en_demo.json",
                              "input": "{{ instruction }}\n{{ input }}", "output": "{{ output }}"}),
    "sst2": ("classification", {"train": "sst2/train.jsonl", "test": "sst2/test.jsonl",
                                "input": "{{ sentence }}", "output": "{{ sentiment }}",
                                "limit": {"train": 800, "test": 400}}),
    "e2e": ("generation", {"train": "e2e/devset.csv", "input": "{{ mr }}", "output": "{{ ref }}"}),
    "banking77": ("classification", {"train": "banking77/train.csv", "input": "{{ text }}",
                                     "output": "{{ category }}", "limit": {"train": 800}}),
}  # fmt: skip


@pytest.mark.skipif(not DATA.is_dir(), reason="the public data sets are not here")
@pytest.mark.parametrize("name", CLEAN)
def test_sound_data_get_no_error_and_none_of_the_signs(name: str) -> None:
    kind, data = CLEAN[name]
    task = Task.from_dict({"name": name, "kind": kind, "data": data}, path=DATA / "task.yaml")
    prepared = prepare(task)
    context = LintContext(task, prepared.splits, prepared.labels)
    assert [f.lint for f in lint(context) if f.severity == "error"] == []
    assert unfit.signs_of(context) == []
