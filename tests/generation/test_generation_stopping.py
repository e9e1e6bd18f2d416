"""Where answers end, and how they are shown while they are written."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny_models import make_tokenizer

from luthier.generation.answers import Answer
from luthier.generation.local import Generator
from luthier.generation.options import Sampling, Stopping
from luthier.generation.texts import Texts

TOKENIZER = make_tokenizer()
EOS = TOKENIZER.eos_token_id


def ids_of(text: str) -> list[int]:
    return list(TOKENIZER(text, add_special_tokens=False)["input_ids"])


def scripted(script: Sequence[int], prompt_tokens: int = 1) -> Any:
    """A real Llama whose head is set so that position p writes script[p], whatever came before."""
    from transformers import LlamaConfig, LlamaForCausalLM

    class Scripted(LlamaForCausalLM):
        def get_output_embeddings(self) -> Any:
            return self.head

    config = LlamaConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        max_position_embeddings=2048,
        pad_token_id=EOS,
        eos_token_id=EOS,
    )
    model = Scripted(config)
    steps = iter(range(10**6))

    class Head(torch.nn.Module):
        def forward(self, hidden: torch.Tensor) -> torch.Tensor:
            scores = torch.zeros(*hidden.shape[:-1], len(TOKENIZER))
            step = next(steps)
            scores[..., script[step] if step < len(script) else EOS] = 50.0
            return scores

    model.head = Head()
    return model.eval()


def answer(script: Sequence[int], stopping: Stopping) -> Answer:
    return Generator(scripted(script), TOKENIZER).generate([[1]], stopping)[0]


def stream(script: Sequence[int], stopping: Stopping) -> tuple[list[str], Answer]:
    *pieces, last = Generator(scripted(script), TOKENIZER).stream([1], stopping)
    assert isinstance(last, Answer)
    assert all(isinstance(piece, str) for piece in pieces)
    return pieces, last  # type: ignore[return-value]


class TestEnds:
    def test_at_a_stop_id(self) -> None:
        got = answer([*ids_of(" LOC "), EOS, *ids_of("more")], Stopping(frozenset({EOS}), (), 50))
        assert (got.text, got.finish_reason, got.completion_tokens) == ("LOC", "stop", 6)

    def test_at_a_stop_id_that_is_no_special_token(self) -> None:
        (dot,) = ids_of(".")
        got = answer([*ids_of("a b.c"), EOS], Stopping(frozenset({EOS, dot}), (), 50))
        assert (got.text, got.finish_reason, got.completion_tokens) == ("a b", "stop", 4)

    def test_at_the_first_stop_string(self) -> None:
        script = [*ids_of("one\n### two END three"), EOS]
        got = answer(script, Stopping(frozenset({EOS}), ("END", "\n### "), 50))
        assert (got.text, got.finish_reason) == ("one", "stop")
        assert got.completion_tokens == len(ids_of("one\n### "))

    def test_at_a_long_stop_string(self) -> None:
        stop = "stop here, this is quite a long sentence with some ü in it."
        got = answer([*ids_of(f"yes {stop} no"), EOS], Stopping(frozenset({EOS}), (stop,), 200))
        assert got.text == "yes"
        assert got.completion_tokens == len(ids_of(f"yes {stop}"))

    def test_where_it_is_cut_off(self) -> None:
        got = answer([*ids_of("abcdef"), EOS], Stopping(frozenset({EOS}), (), 4))
        assert (got.text, got.finish_reason, got.completion_tokens) == ("abcd", "length", 4)
        # the stop token in the last place allowed is an end all the same
        got = answer([*ids_of("abc"), EOS], Stopping(frozenset({EOS}), (), 4))
        assert (got.text, got.finish_reason, got.completion_tokens) == ("abc", "stop", 4)

    def test_without_writing_anything(self) -> None:
        got = answer([EOS], Stopping(frozenset({EOS}), (), 4))
        assert (got.text, got.finish_reason, got.completion_tokens) == ("", "stop", 1)


class TestStream:
    def test_characters_of_many_bytes_come_whole(self) -> None:
        pieces, last = stream([*ids_of("é 你好 👩‍🚀!"), EOS], Stopping(frozenset({EOS}), (), 99))
        assert "".join(pieces) == last.text == "é 你好 👩‍🚀!"
        assert not any("\ufffd" in piece for piece in pieces)
        assert len(pieces) > 5
        assert last.finish_reason == "stop"

    def test_a_stop_string_is_never_shown_in_part(self) -> None:
        for stop in ("\n### ", "abc", "END OF ANSWER"):
            pieces, last = stream(
                [*ids_of(f"text{stop}more"), EOS], Stopping(frozenset({EOS}), (stop,), 99)
            )
            assert "".join(pieces) == last.text == "text"
            assert len(pieces) == 4  # and nothing else is held back

    def test_a_stop_string_at_the_very_start(self) -> None:
        pieces, last = stream(
            [*ids_of("\n### Input"), EOS], Stopping(frozenset({EOS}), ("\n### ",), 99)
        )
        assert pieces == []
        assert last.text == ""

    def test_what_only_began_like_a_stop_string_is_shown_after_all(self) -> None:
        pieces, last = stream(
            [*ids_of("a\n## b\n###"), EOS], Stopping(frozenset({EOS}), ("\n### ",), 99)
        )
        assert "".join(pieces) == last.text == "a\n## b\n###"

    def test_half_a_character_at_the_end_is_shown_as_such(self) -> None:
        script = ids_of("a€")[:-1]
        pieces, last = stream([*script, EOS], Stopping(frozenset({EOS}), (), 99))
        assert "".join(pieces) == last.text == "a\ufffd"

    def test_pieces_come_while_the_answer_is_written(self) -> None:
        generator = Generator(scripted([*ids_of("abc"), EOS]), TOKENIZER)
        pieces = generator.stream([1], Stopping(frozenset({EOS}), (), 99))
        assert next(pieces) == "a"
        assert next(pieces) == "b"
        pieces.close()

    @settings(max_examples=60, deadline=None)
    @given(
        st.text(alphabet="ab \n#é👩\u200d", max_size=20),
        st.lists(st.text(alphabet="ab \n#é", min_size=1, max_size=4), max_size=2),
        st.integers(1, 30),
    )
    @example("a\n", ["\n", "a\n"], 3)  # both end with the same token; the longer begins first
    @example("#aa", ["a", "#aa"], 4)  # the longer begins first, but the other is complete before it
    def test_pieces_together_are_the_answer(self, text: str, stops: list[str], new: int) -> None:
        stopping = Stopping(frozenset({EOS}), tuple(stops), new)
        script = [*ids_of(text), EOS]
        pieces, last = stream(script, stopping)
        assert "".join(pieces) == last.text
        assert all(pieces)
        whole = answer(script, stopping)
        assert (whole.text, whole.completion_tokens, whole.finish_reason) == (
            last.text,
            last.completion_tokens,
            last.finish_reason,
        )
        if new >= len(script):
            # writing ends where the first stop string is complete
            parts = (TOKENIZER.decode(script[:n]) for n in range(1, len(script)))
            read = next((part for part in parts if any(stop in part for stop in stops)), text)
            first = min((read.find(s) for s in stops if s in read), default=len(read))
            assert last.text == read[:first].strip()


class TestTexts:
    def test_bytes_that_a_tokenizer_cannot_join_are_all_held_back(self) -> None:
        class ByteFallback:
            """Decodes each byte of an unfinished character to U+FFFD, as SentencePiece does."""

            def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
                return {3: "a\ufffd\ufffd\ufffd", 4: "a👩"}[len(ids)]

        texts = Texts(ByteFallback(), Stopping(frozenset()))
        assert texts.showable([1, 2, 3]) == "a"
        assert texts.showable([1, 2, 3, 4]) == "a👩"


class TestSampling:
    @pytest.fixture(scope="class")
    def generator(self, tiny_model: Any) -> Generator:
        from luthier.models.loading import load_causal

        loaded = load_causal(str(tiny_model), torch.float32)
        return Generator(loaded.model, loaded.tokenizer)

    PROMPTS = tuple([3 + i, 5, 8, 13 * i + 1, *range(20, 20 + 3 * i)] for i in range(1, 7))
    STOP = Stopping(frozenset({EOS}), (), 12)

    def texts(self, generator: Generator, prompts: Any, sampling: Sampling) -> list[str]:
        return [a.text for a in generator.generate(prompts, self.STOP, sampling)]

    def test_the_same_seed_gives_the_same_answer_in_any_company(self, generator: Generator) -> None:
        sampling = Sampling(temperature=1.0, seed=4)
        together = self.texts(generator, self.PROMPTS, sampling)
        assert self.texts(generator, self.PROMPTS, sampling) == together
        assert self.texts(generator, self.PROMPTS[::-1], sampling) == together[::-1]
        alone = [self.texts(generator, [p], sampling)[0] for p in self.PROMPTS]
        assert alone == together
        *pieces, last = generator.stream(self.PROMPTS[2], self.STOP, sampling)
        assert last.text == together[2]  # type: ignore[union-attr]
        assert "".join(map(str, pieces)) == together[2]

    def test_another_seed_gives_another(self, generator: Generator) -> None:
        seeds = [
            self.texts(generator, self.PROMPTS, Sampling(temperature=1.0, seed=s)) for s in (0, 1)
        ]
        assert seeds[0] != seeds[1]
        greedy = self.texts(generator, self.PROMPTS, Sampling(temperature=0.0, seed=1))
        assert greedy not in seeds

    def test_a_tiny_nucleus_or_temperature_is_greedy(self, generator: Generator) -> None:
        greedy = self.texts(generator, self.PROMPTS, Sampling())
        assert self.texts(generator, self.PROMPTS, Sampling(1.0, top_p=1e-6, seed=3)) == greedy
        assert self.texts(generator, self.PROMPTS, Sampling(1e-4, seed=3)) == greedy

    def test_draws_follow_the_distribution_inside_the_nucleus(self) -> None:
        from luthier.generation.sampling import choose

        logits = torch.tensor([[0.4, 0.3, 0.2, 0.1]]).log()
        source = torch.Generator().manual_seed(0)

        def shares(temperature: float, top_p: float) -> list[float]:
            rows = 4000
            picks = choose(
                logits.expand(rows, -1).float(), Sampling(temperature, top_p), [source] * rows
            )
            return (torch.bincount(picks, minlength=4) / rows).tolist()

        # 3 standard errors of a share of 4,000 draws are below 0.024
        assert shares(1.0, 1.0) == pytest.approx([0.4, 0.3, 0.2, 0.1], abs=0.024)
        assert shares(1.0, 0.69) == pytest.approx([4 / 7, 3 / 7, 0, 0], abs=0.024)
        assert shares(1.0, 0.71) == pytest.approx([4 / 9, 3 / 9, 2 / 9, 0], abs=0.024)
        flat = [p**0.5 for p in (0.4, 0.3, 0.2, 0.1)]
        assert shares(2.0, 1.0) == pytest.approx([p / sum(flat) for p in flat], abs=0.024)
