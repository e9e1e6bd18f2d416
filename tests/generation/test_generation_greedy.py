"""Greedy answers are the ones transformers gives, alone and in company."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from generation_fakes import plainly_generated, random_prompts, window_model
from tiny_models import make_tokenizer

from luthier.data.examples import Message
from luthier.errors import InputError, ModelError
from luthier.generation.local import Generator
from luthier.generation.options import Stopping
from luthier.generation.runner import Runner, batches
from luthier.models.heads import stop_ids
from luthier.models.loading import load_causal
from luthier.prompts.prompt import Prompt

LENGTHS = [40, 3, 17, 1, 25, 33, 9, 60, 12]


@pytest.fixture(scope="module")
def tiny(tiny_model: Path) -> Any:
    return load_causal(str(tiny_model), torch.float32)


class Counting(Generator):
    """Notes the ids that are written and the size of every batch."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ids: dict[tuple[int, ...], list[int]] = {}
        self.sizes: list[int] = []

    def _decode(self, prompts: Any, *args: Any) -> Any:
        for step in super()._decode(prompts, *args):
            for place, token, _ in step:
                self.ids.setdefault(tuple(prompts[place]), []).append(token)
            yield step
        self.sizes.append(len(prompts))


class TestAgainstTransformers:
    @pytest.mark.parametrize("shared", [0, 1, 30], ids=lambda n: f"shared {n}")
    @pytest.mark.parametrize("rows", [1, 4, 64], ids=lambda n: f"batches of {n}")
    def test_a_tiny_model(self, tiny: Any, shared: int, rows: int) -> None:
        prompts = random_prompts([max(n, shared + 1) for n in LENGTHS], shared=shared, seed=shared)
        stops = tuple(range(0, 256, 12))
        generator = Counting(tiny.model, tiny.tokenizer, batch_rows=rows)
        answers = generator.generate(prompts, Stopping(frozenset(stops), (), 24))
        wanted = [plainly_generated(tiny.model, p, 24, stops) for p in prompts]
        assert [generator.ids[tuple(p)] for p in prompts] == wanted
        ended = [ids[-1] in stops for ids in wanted]
        assert any(ended)
        assert not all(ended)  # rows leave the batch while others go on
        assert [a.finish_reason == "stop" for a in answers] == ended
        assert [a.completion_tokens for a in answers] == [len(ids) for ids in wanted]
        assert [a.prompt_tokens for a in answers] == [len(p) for p in prompts]
        bodies = [ids[:-1] if end else ids for ids, end in zip(wanted, ended, strict=True)]
        texts = [tiny.tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in bodies]
        assert [a.text for a in answers] == texts

    @pytest.mark.parametrize("shared", [0, 20])
    @pytest.mark.parametrize("attention", ["sdpa", "eager"])
    def test_a_model_with_a_sliding_window(self, shared: int, attention: str) -> None:
        model, tokenizer = window_model(window=12)
        model.set_attn_implementation(attention)
        prompts = random_prompts([max(n, shared + 1) for n in LENGTHS], shared=shared, seed=7)
        generator = Counting(model, tokenizer)
        generator.generate(prompts, Stopping(frozenset({9}), (), 20))
        for prompt in prompts:
            assert generator.ids[tuple(prompt)] == plainly_generated(model, prompt, 20, (9,))

    def test_a_window_that_holds_everything_shares_the_prefix(self) -> None:
        model, tokenizer = window_model(window=100)
        prompts = random_prompts([30, 41, 35], shared=25, seed=8)
        generator = Counting(model, tokenizer)
        assert Runner(model).shared_prefix(prompts, 20).length == 25
        assert Runner(window_model(window=60)[0]).shared_prefix(prompts, 20).length == 0
        generator.generate(prompts, Stopping(frozenset({9}), (), 20))
        for prompt in prompts:
            assert generator.ids[tuple(prompt)] == plainly_generated(model, prompt, 20, (9,))

    def test_the_embedded_model(self, embedded: Any) -> None:
        prompt = Prompt(embedded.tokenizer, stop_ids=stop_ids(embedded.model))
        questions = ["Name a colour.", "What is the capital of France? One word.", "Count to 5."]
        prompts = [prompt.ask((Message("user", q),)) for q in questions]
        generator = Counting(embedded.model, embedded.tokenizer)
        answers = generator.generate(prompts, Stopping(prompt.stop_ids, (), 12))
        for ids, answer in zip(prompts, answers, strict=True):
            wanted = plainly_generated(embedded.model, ids, 12, sorted(prompt.stop_ids))
            assert generator.ids[tuple(ids)] == wanted
            assert answer.text == prompt.read(wanted)


class TestCompany:
    def test_a_prefix_computed_before_serves_a_prompt_that_comes_alone(self, tiny: Any) -> None:
        prompts = random_prompts([30, 45, 38], shared=20)
        stopping = Stopping(frozenset(), (), 10)
        together = Generator(tiny.model, tiny.tokenizer)
        texts = [a.text for a in together.generate(prompts, stopping)]
        assert together._runner.prefix_in_use(prompts[1]).length == 20
        assert [together.generate([p], stopping)[0].text for p in prompts] == texts
        other = random_prompts([30], seed=99)[0]
        assert together._runner.prefix_in_use(other).length == 0
        fresh = Generator(tiny.model, tiny.tokenizer)
        assert together.generate([other], stopping)[0].text == (
            fresh.generate([other], stopping)[0].text
        )

    def test_the_same_prompt_many_times(self, tiny: Any) -> None:
        prompt = random_prompts([30])[0]
        answers = Generator(tiny.model, tiny.tokenizer).generate(
            [prompt] * 5, Stopping(frozenset(), (), 10)
        )
        assert len({a.text for a in answers}) == 1

    def test_no_prompts_give_no_answers(self, tiny: Any) -> None:
        told: list[int] = []
        generator = Generator(tiny.model, tiny.tokenizer)
        assert generator.generate([], Stopping(frozenset(), (), 4), progress=told.append) == []
        assert told == []

    def test_a_prompt_without_tokens_is_refused(self, tiny: Any) -> None:
        with pytest.raises(InputError, match="no tokens"):
            Generator(tiny.model, tiny.tokenizer).generate([[1], []], Stopping(frozenset()))

    def test_progress_counts_every_row_once(self, tiny: Any) -> None:
        told: list[int] = []
        generator = Generator(tiny.model, tiny.tokenizer, batch_rows=4)
        generator.generate(random_prompts(LENGTHS), Stopping(frozenset(), (), 2), None, told.append)
        assert sum(told) == len(LENGTHS)
        assert max(told) == 4

    def test_two_threads_may_ask_one_model(self, tiny: Any) -> None:
        generator = Generator(tiny.model, tiny.tokenizer)
        stopping = Stopping(frozenset({5}), (), 12)
        sets = [random_prompts([20, 31, 26], shared=12, seed=s) for s in range(4)]
        alone = [[a.text for a in generator.generate(p, stopping)] for p in sets]
        got: dict[int, list[str]] = {}

        def ask(index: int) -> None:
            if index % 2:
                got[index] = [a.text for a in generator.generate(sets[index], stopping)]
            else:
                pieces = [list(generator.stream(p, stopping)) for p in sets[index]]
                got[index] = ["".join(p[:-1]) for p in pieces]

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert [got[i] for i in range(4)] == alone

    def test_a_model_with_a_recurrent_state_is_refused(self) -> None:
        from transformers import MambaConfig, MambaForCausalLM

        config = MambaConfig(vocab_size=259, hidden_size=16, num_hidden_layers=1, state_size=4)
        with pytest.raises(ModelError, match="recurrent state"):
            Generator(MambaForCausalLM(config), make_tokenizer())


class TestBatches:
    def test_every_row_once_and_never_more_than_fits(self) -> None:
        lengths = [5, 900, 30, 30, 31, 2, 400, 30, 1, 5000]
        for tokens, rows in ((1000, 3), (100, 64), (10**9, 64)):
            parts = list(batches(lengths, 10, tokens=tokens, rows=rows))
            assert sorted(row for part in parts for row in part) == list(range(len(lengths)))
            for part in parts:
                assert len(part) <= rows
                longest = max(lengths[row] for row in part)
                assert len(part) == 1 or len(part) * (longest + 10) <= tokens
        assert list(batches([], 10, tokens=10, rows=1)) == []
