"""Answers behind a soft prefix are those of a slow reference: whole sequences through transformers,
token by token, with what was stored put before them by hand."""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
import torch
from generation_fakes import plainly_generated, random_prompts, window_model
from safetensors.torch import load_file
from tiny_models import make_tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache

from luthier.data.examples import Message
from luthier.errors import ModelError
from luthier.generation.answers import Answer
from luthier.generation.local import Generator
from luthier.generation.options import AnswerOptions, Sampling, Stopping
from luthier.generation.sampling import choose, source
from luthier.models import soft_prompts
from luthier.models.heads import body, virtual_tokens
from luthier.models.soft_prefix import check_suits
from luthier.prompts.prompt import Prompt

ADD = {
    "prompt-tuning": soft_prompts.add_prompt,
    "p-tuning": soft_prompts.add_encoded_prompt,
    "prefix-tuning": soft_prompts.add_prefix,
}
LENGTHS = [40, 3, 17, 1, 25, 33, 9, 60, 12]
CHOICES = [[4], [9, 8, 7], [9, 8], [200], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], [77, 3]]
STOPS = tuple(range(0, 256, 12))


class Reference:
    """The base model with a stored soft prompt, and no code of ours.

    Args:
        base: a fresh copy of the base model.
        stored: peft's `prompt_embeddings`: input embeddings (n, hidden), or for prefix tuning
            (n, layers * 2 * heads * head_dim).
    """

    def __init__(self, base: Any, stored: torch.Tensor) -> None:
        self.base = base.eval()
        self.stored = stored
        self.embeds = stored.shape[1] == base.config.hidden_size

    @torch.no_grad()
    def logits(self, ids: list[int]) -> torch.Tensor:
        """(len(ids), vocabulary), all in one pass."""
        own = torch.tensor([ids])
        if self.embeds:
            both = torch.cat([self.stored[None], self.base.get_input_embeddings()(own)], dim=1)
            out = self.base(inputs_embeds=both, use_cache=False).logits
            return out[0, len(self.stored) :]
        heads = self.base.config.num_key_value_heads
        layers = self.base.config.num_hidden_layers
        cache = DynamicCache(config=self.base.config)
        for layer, pair in enumerate(
            self.stored.view(len(self.stored), layers, 2, heads, -1).unbind(1)
        ):
            keys, values = pair.permute(1, 2, 0, 3)[:, None]
            cache.update(keys, values, layer)
        return self.base(input_ids=own, past_key_values=cache).logits[0]

    def written(self, prompt: list[int], new: int, stops: tuple[int, ...], pick: Any) -> list[int]:
        """Token by token, every time from the beginning."""
        out: list[int] = []
        while len(out) < new:
            out.append(pick(self.logits([*prompt, *out])[-1]))
            if out[-1] in stops:
                break
        return out

    def greedy(self, prompt: list[int], new: int, stops: tuple[int, ...] = STOPS) -> list[int]:
        return self.written(prompt, new, stops, lambda row: int(row.argmax()))

    def score(self, prompt: list[int], choice: list[int]) -> float:
        logs = self.logits([*prompt, *choice]).double().log_softmax(-1)
        start = len(prompt) - 1
        return sum(float(logs[start + i, token]) for i, token in enumerate(choice))


class Counting(Generator):
    """Notes the ids that are written."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.ids: dict[tuple[int, ...], list[int]] = {}

    def _decode(self, prompts: Any, *args: Any) -> Any:
        for step in super()._decode(prompts, *args):
            for place, token, _ in step:
                self.ids.setdefault(tuple(prompts[place]), []).append(token)
            yield step


def softened(model: Any, method: str, folder: Path, length: int = 5) -> tuple[Any, torch.Tensor]:
    """A model with a soft prompt that is far from words, and what is stored of it."""
    soft = ADD[method](model, length=length, words=[70, 80, 90], base="tiny").eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in soft.prompt_encoder.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    weights = {n: p.detach() for n, p in soft.named_parameters() if p.requires_grad}
    folder.mkdir(parents=True)
    soft_prompts.save(soft, weights, folder)
    return soft, load_file(folder / "adapter_model.safetensors")["prompt_embeddings"]


@pytest.fixture(scope="module", params=sorted(ADD))
def tiny(request: Any, tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(model with a soft prompt as it is loaded for answering, the reference)."""
    folder = tmp_path_factory.mktemp("soft") / request.param
    load = AutoModelForCausalLM.from_pretrained
    _, stored = softened(load(tiny_model), request.param, folder)
    return soft_prompts.restore(load(tiny_model), folder), Reference(load(tiny_model), stored)


def until(stop: int, ids: list[int]) -> list[int]:
    return ids[: ids.index(stop) + 1] if stop in ids else ids


def uneven_stop(answers: list[list[int]]) -> int:
    """The token that ends the answers after the most different numbers of tokens.

    What a random model writes differs between processors, so no fixed token would do.
    """
    tokens = sorted({token for ids in answers for token in ids})
    return max(tokens, key=lambda token: len({len(until(token, ids)) for ids in answers}))


@pytest.mark.parametrize("shared", [0, 30], ids=lambda n: f"shared {n}")
@pytest.mark.parametrize("rows", [1, 4, 64], ids=lambda n: f"batches of {n}")
def test_greedy_answers(tiny: Any, shared: int, rows: int) -> None:
    model, reference = tiny
    prompts = random_prompts([max(n, shared + 1) for n in LENGTHS], shared=shared, seed=shared)
    endless = [reference.greedy(prompt, 16, ()) for prompt in prompts]
    stop = uneven_stop(endless)
    wanted = [until(stop, ids) for ids in endless]
    assert len({len(ids) for ids in wanted}) > 1  # rows leave the batch while others go on
    generator = Counting(model, make_tokenizer(), batch_rows=rows)
    answers = generator.generate(prompts, Stopping(frozenset([stop]), (), 16))
    assert [generator.ids[tuple(p)] for p in prompts] == wanted
    assert [a.prompt_tokens for a in answers] == [len(p) for p in prompts]
    # and the prefix matters
    assert wanted != [plainly_generated(reference.base, p, 16, (stop,)) for p in prompts]


def test_a_beginning_that_was_read_before_serves_again(tiny: Any) -> None:
    model, reference = tiny
    prompts = random_prompts([30, 41, 35], shared=25, seed=8)
    generator = Counting(model, make_tokenizer())
    generator.prime(prompts[:2])
    stopping = Stopping(frozenset(STOPS), (), 12)
    for prompt in prompts:  # one by one, as a server does
        generator.generate([prompt], stopping)
        assert generator.ids[tuple(prompt)] == reference.greedy(prompt, 12)


def test_streamed_answers(tiny: Any) -> None:
    model, _ = tiny
    prompts = random_prompts([9, 33], seed=4)
    generator = Generator(model, make_tokenizer())
    stopping = Stopping(frozenset(STOPS), (), 16)
    whole = generator.generate(prompts, stopping)
    for prompt, wanted in zip(prompts, whole, strict=True):
        *pieces, answer = generator.stream(prompt, stopping)
        assert isinstance(answer, Answer)
        assert answer.text == wanted.text == "".join(map(str, pieces))
        assert answer.completion_tokens == wanted.completion_tokens


def test_sampled_answers(tiny: Any) -> None:
    model, reference = tiny
    prompts = random_prompts([9, 33, 20], seed=6)
    sampling = Sampling(temperature=0.8, top_p=0.9, seed=3)
    generator = Counting(model, make_tokenizer())
    generator.generate(prompts, Stopping(frozenset(STOPS), (), 12), sampling)
    for prompt in prompts:
        draw = source(3, prompt)
        wanted = reference.written(
            prompt, 12, STOPS, lambda row, draw=draw: int(choose(row[None], sampling, [draw])[0])
        )
        assert generator.ids[tuple(prompt)] == wanted


@pytest.mark.parametrize("shared", [0, 15], ids=["nothing shared", "shared"])
@pytest.mark.parametrize("tokens", [40, 8192], ids=["small batches", "one batch"])
def test_likelihoods(tiny: Any, shared: int, tokens: int) -> None:
    model, reference = tiny
    prompts = random_prompts([20, 37, 16, 51], shared=shared, seed=1)
    scores, _ = Generator(model, make_tokenizer(), batch_tokens=tokens).score(prompts, CHOICES)
    for prompt, found in zip(prompts, scores, strict=True):
        assert found == pytest.approx([reference.score(prompt, c) for c in CHOICES], abs=1e-4)


@pytest.mark.parametrize("method", sorted(ADD))
@pytest.mark.parametrize("window", [12, 200], ids=["short window", "long window"])
def test_a_sliding_window_counts_the_prefix(method: str, window: int, tmp_path: Path) -> None:
    model, stored = softened(window_model(window)[0], method, tmp_path / "s")
    reference = Reference(window_model(window)[0], stored)
    for shared in (0, 20):
        prompts = random_prompts([max(n, shared + 1) for n in LENGTHS], shared=shared, seed=7)
        generator = Counting(model, make_tokenizer())
        generator.generate(prompts, Stopping(frozenset({9}), (), 8))
        for prompt in prompts:
            assert generator.ids[tuple(prompt)] == reference.greedy(prompt, 8, (9,))
        scores, _ = generator.score(prompts[:3], CHOICES)
        for prompt, found in zip(prompts[:3], scores, strict=True):
            assert found == pytest.approx([reference.score(prompt, c) for c in CHOICES], abs=1e-4)


def test_the_serving_batcher(tiny: Any) -> None:
    from luthier.arms.prompted import PromptedAnswerer, Reading
    from luthier.serving.batcher import Batcher

    model, _ = tiny
    tokenizer = make_tokenizer()

    def answerer() -> PromptedAnswerer:
        return PromptedAnswerer(
            "soft",
            Generator(model, tokenizer),
            Prompt(tokenizer, instruction="Answer at length."),
            Reading(max_new_tokens=12),
            context_length=500,
        )

    asked = [(Message("user", "word " * n),) for n in (1, 5, 2, 9)]
    alone = [answerer().answer([one])[0].text for one in asked]
    batcher = Batcher(answerer())
    try:
        futures: list[Future[Answer]] = [batcher.submit(one, AnswerOptions()) for one in asked]
        assert [future.result(timeout=60).text for future in futures] == alone
        streamed: list[Any] = []
        done: Future[None] = Future()

        def emit(piece: Any) -> None:
            streamed.append(piece)
            if not isinstance(piece, str):
                done.set_result(None)

        batcher.stream(asked[3], AnswerOptions(), emit)
        done.result(timeout=60)
        assert streamed[-1].text == alone[3] == "".join(streamed[:-1])
    finally:
        batcher.close()


class TestBody:
    def test_masks_and_positions_are_given_as_if_there_were_no_prefix(self, tiny: Any) -> None:
        model, reference = tiny
        ids = [5, 90, 33, 200, 7]
        wanted = reference.logits(ids)
        hidden = body(model)(
            input_ids=torch.tensor([[0, 0, *ids], [1, 2, *ids]]),
            attention_mask=torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7]),
            position_ids=torch.tensor([[0, 0, 0, 1, 2, 3, 4], list(range(7))]),
        ).last_hidden_state
        found = model.get_output_embeddings()(hidden[0, 2:])
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)

    def test_a_cache_that_is_asked_for_goes_on(self, tiny: Any) -> None:
        model, reference = tiny
        ids = [5, 90, 33, 200, 7]
        with torch.no_grad():
            first = body(model)(input_ids=torch.tensor([ids[:3]]), use_cache=True)
            cache = first.past_key_values
            assert cache.get_seq_length() == virtual_tokens(model) + 3
            hidden = body(model)(
                input_ids=torch.tensor([ids[3:]]), past_key_values=cache
            ).last_hidden_state
        found = model.get_output_embeddings()(hidden[0])
        torch.testing.assert_close(found, reference.logits(ids)[3:], rtol=1e-4, atol=1e-4)

    def test_it_can_be_left_out_for_a_while(self, tiny: Any) -> None:
        model, reference = tiny
        ids = torch.tensor([[5, 90, 33, 200, 7]])
        with torch.no_grad():
            plain = reference.base.base_model(input_ids=ids).last_hidden_state
            with model.disable_adapter():
                found = body(model)(input_ids=ids).last_hidden_state
            again = body(model)(input_ids=ids).last_hidden_state
        torch.testing.assert_close(found, plain)
        assert float((again - plain).abs().max()) > 0.05

    def test_it_is_computed_again_when_it_has_changed(self, tiny_model: Path) -> None:
        base = AutoModelForCausalLM.from_pretrained(tiny_model)
        model = soft_prompts.add_prompt(base, length=3, words=[1], base="tiny").eval()
        ids = torch.tensor([[5, 90, 33]])
        with torch.inference_mode():
            before = body(model)(input_ids=ids).last_hidden_state
            kept = body(model).states()
            assert body(model).states() is kept
        with torch.no_grad():
            for parameter in model.prompt_encoder.parameters():
                parameter.add_(0.5)
        with torch.no_grad():
            after = body(model)(input_ids=ids).last_hidden_state
        assert float((after - before).abs().max()) > 1e-3


SIZES = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2}


class TestUnsuited:
    def test_a_recurrent_state(self) -> None:
        config = AutoConfig.for_model("mamba", state_size=4, **SIZES)
        with pytest.raises(ModelError, match="recurrent state"):
            check_suits(AutoModelForCausalLM.from_config(config).eval())

    def test_layers_that_share_their_keys(self) -> None:
        config = AutoConfig.for_model(
            "gemma3n_text",
            **{**SIZES, "num_hidden_layers": 3},
            intermediate_size=[32] * 3,
            num_attention_heads=2,
            num_key_value_heads=1,
            head_dim=8,
            num_kv_shared_layers=1,
            layer_types=["sliding_attention", "full_attention", "full_attention"],
            laurel_rank=4,
            hidden_size_per_layer_input=4,
            vocab_size_per_layer_input=64,
            activation_sparsity_pattern=None,
            pad_token_id=0,
        )
        with pytest.raises(ModelError, match="soft prefix"):
            check_suits(AutoModelForCausalLM.from_config(config).eval())

    def test_numbers_that_differ_behind_a_cache(self, tiny_model: Path) -> None:
        model = AutoModelForCausalLM.from_pretrained(tiny_model).eval()
        check_suits(model)
        # a model whose layers look at the length of what they are given
        norm = model.base_model.norm
        norm.register_forward_hook(lambda _, __, out: out * (1 + 0.01 * out.shape[1]))
        with pytest.raises(ModelError, match="other hidden states"):
            check_suits(model)
