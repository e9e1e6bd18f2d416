"""Likelihoods are those of a plain forward pass."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from generation_fakes import plain_score, random_prompts, window_model
from hypothesis import given
from hypothesis import strategies as st

from luthier.generation.local import Generator
from luthier.generation.tree import filled_lines
from luthier.models.loading import load_causal

CHOICES = [[4], [9, 8, 7], [9, 8], [200], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [77, 3]]


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Any:
    return load_causal(str(tiny_model), torch.float32)


def check(
    model: Any, generator: Generator, prompts: list[list[int]], choices: list[Any]
) -> list[list[float]]:
    scores, seconds = generator.score(prompts, choices)
    rows = choices if isinstance(choices[0][0], list) else [choices] * len(prompts)
    assert len(seconds) == len(prompts)
    assert all(spent > 0 for spent in seconds)
    for prompt, own, found in zip(prompts, rows, scores, strict=True):
        assert found == pytest.approx([plain_score(model, prompt, c) for c in own], abs=1e-4)
    return scores


@pytest.mark.parametrize("shared", [0, 15], ids=["nothing shared", "shared"])
@pytest.mark.parametrize("tokens", [40, 8192], ids=["small batches", "one batch"])
class TestChoices:
    def test_the_same_for_every_row(self, tiny: Any, shared: int, tokens: int) -> None:
        prompts = random_prompts([20, 37, 16, 51], shared=shared, seed=1)
        generator = Generator(tiny.model, tiny.tokenizer, batch_tokens=tokens)
        check(tiny.model, generator, prompts, CHOICES)

    def test_other_ones_for_each_row(self, tiny: Any, shared: int, tokens: int) -> None:
        prompts = random_prompts([20, 37, 16], shared=shared, seed=2)
        rows = [CHOICES[:2], [[5, 6]], [*CHOICES[2:], [1]]]
        generator = Generator(tiny.model, tiny.tokenizer, batch_tokens=tokens)
        check(tiny.model, generator, prompts, rows)

    @pytest.mark.parametrize("window", [10, 500], ids=["short window", "long window"])
    def test_with_a_sliding_window(self, shared: int, tokens: int, window: int) -> None:
        model, tokenizer = window_model(window=window)
        prompts = random_prompts([20, 37, 16], shared=shared, seed=3)
        generator = Generator(model, tokenizer, batch_tokens=tokens)
        check(model, generator, prompts, CHOICES)


class TestEdges:
    def test_prompts_of_one_token(self, tiny: Any) -> None:
        check(tiny.model, Generator(tiny.model, tiny.tokenizer), [[7], [8], [7]], CHOICES)

    def test_a_continuation_without_tokens_is_certain(self, tiny: Any) -> None:
        generator = Generator(tiny.model, tiny.tokenizer)
        scores, _ = generator.score([[7, 1], [8]], [[], [3, 4]])
        for row, prompt in zip(scores, ([7, 1], [8]), strict=True):
            assert row == pytest.approx([0.0, plain_score(tiny.model, prompt, [3, 4])], abs=1e-4)
        assert generator.score([[7], [8]], [[]])[0] == [[0.0], [0.0]]

    def test_nothing_to_score(self, tiny: Any) -> None:
        generator = Generator(tiny.model, tiny.tokenizer)
        assert generator.score([], CHOICES) == ([], [])
        assert generator.score([[7], [8]], [])[0] == [[], []]

    def test_progress_counts_every_row_once(self, tiny: Any) -> None:
        told: list[int] = []
        generator = Generator(tiny.model, tiny.tokenizer, batch_rows=2)
        generator.score(random_prompts([5, 6, 7, 8, 9]), CHOICES, told.append)
        assert sum(told) == 5

    def test_scoring_does_not_disturb_writing(self, tiny: Any) -> None:
        from luthier.generation.options import Stopping

        prompts = random_prompts([30, 28], shared=20, seed=4)
        stopping = Stopping(frozenset({5}), (), 8)
        generator = Generator(tiny.model, tiny.tokenizer)
        before = [a.text for a in generator.generate(prompts, stopping)]
        first = check(tiny.model, generator, prompts, CHOICES)
        assert [a.text for a in generator.generate(prompts, stopping)] == before
        assert check(tiny.model, generator, prompts, CHOICES) == first


def test_the_embedded_model(embedded: Any) -> None:
    ids = embedded.tokenizer
    prompts = [ids(t)["input_ids"] for t in ("The capital of France is", "The sky is")]
    choices = [ids(t)["input_ids"] for t in (" Paris", " made of cheese", " blue")]
    scores = check(embedded.model, Generator(embedded.model, embedded.tokenizer), prompts, choices)
    assert scores[0].index(max(scores[0])) == 0
    assert scores[1].index(max(scores[1])) == 2


@given(
    sizes=st.lists(st.integers(1, 300), max_size=60),
    tokens=st.integers(1, 2000),
    most=st.integers(1, 20),
)
def test_rows_fill_lines_without_loss(sizes: list[int], tokens: int, most: int) -> None:
    batches = list(filled_lines(sizes, tokens=tokens, most=most))
    rows = [row for batch in batches for line in batch for row in line]
    assert sorted(rows) == list(range(len(sizes)))
    longest = sorted(sizes, reverse=True)[:1]
    for batch in batches:
        width = max(sum(sizes[row] for row in line) for line in batch)
        # no line is wider than the batch's longest row, which opens the first
        assert width == sizes[batch[0][0]] == max(sizes[row] for line in batch for row in line)
        assert len(batch) <= most
        assert len(batch) == 1 or len(batch) * width <= tokens
    assert not batches or sizes[batches[0][0][0]] == longest[0]


def test_short_rows_stand_beside_long_ones() -> None:
    assert list(filled_lines([10, 4, 100, 90, 60, 40, 3], tokens=10_000, most=64)) == [
        [[2], [3, 0], [4, 5], [1, 6]]
    ]
