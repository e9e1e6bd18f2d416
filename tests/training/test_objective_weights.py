"""Instruction tuning: which turns are trained, and how much each of their tokens counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import make_tokenizer
from torch.nn import functional
from training_fakes import config, load

from luthier.data.conversations import split_conversation
from luthier.data.examples import Example, Message, content_hash
from luthier.errors import InputError
from luthier.prompts.prompt import Prompt, Shot
from luthier.training.loop import fit
from luthier.training.losses import IGNORED
from luthier.training.objectives.sft import Item, Sft
from luthier.training.rows import teach_all, teach_validation

TOKENIZER = make_tokenizer()
END = "<|im_end|>"


def talk(*weights: float | None) -> Example:
    """A conversation whose assistant turns have these weights."""
    turns: list[Message] = []
    for index, weight in enumerate(weights):
        turns += [Message("user", f"q{index}"), Message("assistant", f"a{index}", weight)]
    last = turns.pop()
    return Example("x", tuple(turns), last.content, source="rows.jsonl line 7", weight=last.weight)


def spans(example: Example, loss_on: str, **prompt: Any) -> list[tuple[str, float]]:
    """(text, weight) of each run of trained ids of one weight."""
    taught = Prompt(TOKENIZER, **prompt).teach(
        example.messages, example.output, loss_on=loss_on, weight=example.weight
    )
    weights = taught.weights or [float(t) for t in taught.trained]
    assert [w > 0 for w in weights] == taught.trained
    runs: list[tuple[list[int], float]] = []
    before = 0.0
    for token, weight in zip(taught.ids, weights, strict=True):
        if weight and weight != before:
            runs.append(([], weight))
        if weight:
            runs[-1][0].append(token)
        before = weight
    return [(TOKENIZER.decode(ids), weight) for ids, weight in runs]


class TestWhatIsTrained:
    def test_the_three_ways(self) -> None:
        example = talk(None, None, None)
        assert spans(example, "completion") == [(f"a2{END}", 1)]
        assert spans(example, "assistant") == [(f"a{i}{END}", 1) for i in range(3)]
        (everything,) = spans(example, "all")
        assert everything[0].startswith("<|im_start|>user\nq0")
        assert everything[0].endswith(f"a2{END}")

    def test_shots_are_trained_with_all_alone(self) -> None:
        shown = {"shots": [Shot("s", "shown")]}
        assert spans(talk(None), "assistant", **shown) == [(f"a0{END}", 1)]
        assert "shown" in spans(talk(None), "all", **shown)[0][0]

    def test_weights_scale_a_turn_and_what_closes_it(self) -> None:
        example = talk(0.5, 0, 2)
        assert spans(example, "assistant") == [(f"a0{END}", 0.5), (f"a2{END}", 2)]
        assert spans(talk(None, 0.25), "completion") == [(f"a1{END}", 0.25)]
        kept = spans(talk(0, None), "all")
        assert [weight for _, weight in kept] == [1, 1]
        assert not any(f"a0{END}" in text for text, _ in kept)

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.sampled_from([None, 0, 0.3, 1, 2.5]), min_size=1, max_size=4))
    def test_they_change_no_id(self, weights: list[float | None]) -> None:
        weighed, plain = talk(*weights), talk(*[None] * len(weights))
        prompt = Prompt(TOKENIZER, instruction="Be brief.")
        one, other = (
            prompt.teach(e.messages, e.output, loss_on="assistant", weight=e.weight)
            for e in (weighed, plain)
        )
        assert one.ids == other.ids
        found = one.weights or [float(t) for t in one.trained]
        # every turn is `aN` and its end: three tokens of a byte-level tokenizer
        assert sum(found) == pytest.approx(3 * sum(1 if w is None else w for w in weights))


class TestReading:
    def turns(self, weight: Any, role: str = "assistant") -> list[dict[str, Any]]:
        said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]
        next(turn for turn in said if turn["role"] == role)["weight"] = weight
        return said

    def test_a_weight_is_read_and_written_again(self) -> None:
        turns, answer = split_conversation(self.turns(0.5), "row")
        assert answer == Message("assistant", "a", 0.5)
        example = Example("1", turns, answer.content, weight=answer.weight)
        assert Example.from_row(example.to_row()) == example
        assert "weight" not in str(Example("1", turns, "a").to_row())
        assert content_hash([example]) != content_hash([Example("1", turns, "a")])
        assert split_conversation(self.turns(0, "user"), "row")[0][0].weight is None

    @pytest.mark.parametrize("weight", [-1, float("nan"), float("inf"), "1", True, [1]])
    def test_what_is_no_weight(self, weight: Any) -> None:
        with pytest.raises(InputError, match="row: turn 2 has the weight"):
            split_conversation(self.turns(weight), "row")

    def test_only_the_assistant_has_one(self) -> None:
        with pytest.raises(InputError, match="row: turn 1 is the user's and has a weight"):
            split_conversation(self.turns(1, "user"), "row")


class TestRows:
    def test_rows_without_a_trained_token_are_named(self) -> None:
        prompt = Prompt(TOKENIZER)
        with pytest.raises(InputError, match=r"1 training examples have no trained.*line 7"):
            teach_all(prompt, [talk(None), talk(0)], config())
        with pytest.raises(InputError, match="no trained token"):
            teach_all(prompt, [talk(0, 0)], config(loss_on="assistant"))
        taught, _ = teach_all(prompt, [talk(None, 0)], config(loss_on="assistant"))
        assert taught[0].trained_tokens == 3
        assert len(teach_all(prompt, [talk(0)], config(loss_on="all"))[0]) == 1

    def test_a_weight_that_would_be_passed_over(self) -> None:
        with pytest.raises(InputError, match=r"line 7: an earlier turn.*loss_on: completion"):
            teach_all(Prompt(TOKENIZER), [talk(0.5, 1)], config())
        assert teach_all(Prompt(TOKENIZER), [talk(0, 1)], config())[0][0].weights is None

    def test_validation_rows_that_teach_nothing_are_counted(self) -> None:
        rows, notes = teach_validation(Prompt(TOKENIZER), [talk(1), talk(0)], config(patience=1))
        assert len(rows) == 1
        assert "1 of 2 validation examples" in notes[0]


def by_hand(model: Any, item: Item) -> float:
    """sum of weight * cross-entropy, one token after another."""
    with torch.no_grad():
        found = model(input_ids=torch.tensor([item.ids])).logits[0].double()
    losses = functional.cross_entropy(found, torch.tensor(item.targets), reduction="none")
    weights = item.weights or [1.0] * len(item.ids)
    return sum(
        weight * float(loss)
        for weight, loss, target in zip(weights, losses, item.targets, strict=True)
        if target != IGNORED
    )


def items(*examples: Example, loss_on: str = "assistant") -> list[Item]:
    taught, _ = teach_all(
        Prompt(TOKENIZER, instruction="Be brief and kind."), examples, config(loss_on=loss_on)
    )
    return [Sft().item(one) for one in taught]


class TestLoss:
    @pytest.mark.parametrize("fused", [True, False])
    def test_a_step_is_the_weighted_mean(self, tiny_model: Path, fused: bool) -> None:
        rows = items(talk(0.5, 2, None), talk(None), talk(0, 0.1))
        assert [row.weight for row in rows] == pytest.approx([3 * 3.5, 3, 0.3])
        model = load(tiny_model).model
        wanted = sum(by_hand(model, row) for row in rows) / (3 * 4.6)
        curves = []
        for micro in (1, 10_000):
            done = fit(
                load(tiny_model).model,
                Sft(),
                rows,
                config(batch_size=3, micro_tokens=micro, fused=fused, epochs=3),
            )
            assert done.curve[0][1] == pytest.approx(wanted, rel=1e-5)
            curves.append([loss for _, loss in done.curve])
        assert curves[0] == pytest.approx(curves[1], rel=1e-4)

    def test_equal_weights_are_no_weights(self, tiny_model: Path) -> None:
        """Weights are relative: 0.3 everywhere is the same training."""
        results = [
            fit(load(tiny_model).model, Sft(), rows, config(batch_size=2, epochs=2))
            for rows in (items(talk(None, None), talk(None)), items(talk(0.3, 0.3), talk(0.3)))
        ]
        for (_, one), (_, other) in zip(results[0].curve, results[1].curve, strict=True):
            assert one == pytest.approx(other, rel=1e-5)

    def test_gradients_are_weighted_too(self, tiny_model: Path) -> None:
        model = load(tiny_model).model
        (row,) = items(talk(2, 0.5))
        gradients = []
        for loss in (
            lambda: Sft().loss(model, [row]),
            lambda: sum(
                weight * Sft().loss(model, [Item(row.ids, only)])
                for weight, only in (
                    (
                        w,
                        [
                            t if w == own else IGNORED
                            for t, own in zip(row.targets, ws, strict=True)
                        ],
                    )
                    for ws in [row.weights]
                    for w in (2, 0.5)
                )
            ),
        ):
            model.zero_grad(set_to_none=True)
            loss().backward()
            gradients.append({n: p.grad.clone() for n, p in model.named_parameters()})
        for name, gradient in gradients[0].items():
            torch.testing.assert_close(gradient, gradients[1][name], rtol=1e-4, atol=1e-5)
