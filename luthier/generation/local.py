"""Prompts to answers on this machine.

Rows are grouped by length, the tokens that all prompts start with are computed once, and rows that
have ended leave the batch. Scoring a fixed set of continuations (the labels of a classification)
shares the prompt between them in the same way.

Numbers: rows of a batch are padded on the left and masked, so a row's answer does not depend on its
neighbours beyond the rounding of sums. The default precision for answers is therefore float32 on a
CPU: in bfloat16 a near tie can fall differently alone (when served) than in company (when
evaluated).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from luthier.generation.answers import Answer
from luthier.generation.likelihood import choices_by_row, score_batch
from luthier.generation.options import Sampling, Stopping
from luthier.generation.runner import Prefix, Runner, batches
from luthier.generation.sampling import choose, source
from luthier.generation.texts import Texts
from luthier.generation.tree import branch_tokens, filled_lines
from luthier.models.heads import logits
from luthier.models.packed import packed

Progress = Callable[[int], None]

#: Tokens of rows that are scored together on a CPU, padding counted: enough to keep it busy, and
#: few enough that lines become shorter with the rows.
_COMPUTED = 1536
#: Rows leave the batch when no more than this share of it is still being written.
_LIVE = 0.75


class Generator:
    """Writes and scores with one causal model.

    Args:
        model: a Hugging Face causal LM; it is put into evaluation mode.
        tokenizer: its tokenizer.
        batch_tokens: how many cached tokens (rows x length) one batch may hold; bounds memory.
        batch_rows: how many rows one batch may hold.

    Raises:
        ModelError: the model keeps something other than keys and values between tokens.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, batch_tokens: int = 8192, batch_rows: int = 64
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens
        self.batch_rows = batch_rows
        self._runner = Runner(self.model)
        # answerers that share this model may be served from different threads
        self._lock = threading.RLock()

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        stopping: Stopping,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """An answer to each prompt (token ids), in the order given.

        Args:
            prompts: token ids, one list a row.
            stopping: when an answer has ended.
            sampling: greedy when None.
            progress: called with the number of rows that have been answered.

        Raises:
            InputError: a prompt is empty.
        """
        with self._lock, torch.inference_mode(), packed(self.model):
            return self._generate(prompts, stopping, sampling or Sampling(), progress)

    def stream(
        self, prompt: Sequence[int], stopping: Stopping, sampling: Sampling | None = None
    ) -> Iterator[str | Answer]:
        """The answer to one prompt, piece by piece; the last item is the whole `Answer`.

        The pieces together are the answer's text.
        """
        with self._lock, packed(self.model):
            yield from self._stream(prompt, stopping, sampling or Sampling())

    def prime(self, prompts: Sequence[Sequence[int]]) -> None:
        """Compute what these prompts start with, so that one that starts so is answered sooner."""
        with self._lock, torch.inference_mode(), packed(self.model):
            self._runner.shared_prefix(prompts, 1)

    def score(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Sequence[int]] | Sequence[Sequence[Sequence[int]]],
        progress: Progress | None = None,
    ) -> tuple[list[list[float]], list[float]]:
        """Log-likelihood of each continuation after each prompt.

        Args:
            prompts: token ids, one list a row.
            continuations: the same choices for every row (a list of id lists), or one such list
                for each row.
            progress: called with the number of rows that have been scored.

        Returns:
            (log-likelihoods [row][choice], natural log, summed over tokens; seconds a row).

        Raises:
            InputError: a prompt is empty.
        """
        with self._lock, torch.inference_mode(), packed(self.model):
            return self._score(prompts, continuations, progress)

    # ---- inside --------------------------------------------------------------------------------

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        stopping: Stopping,
        sampling: Sampling,
        progress: Progress | None,
    ) -> list[Answer]:
        texts = Texts(self.tokenizer, stopping)
        prefix = self._runner.shared_prefix(prompts, stopping.max_new_tokens)
        answers: dict[int, Answer] = {}
        shared = prefix.length - prefix.copied
        lengths = [len(prompt) - shared for prompt in prompts]
        for rows in self._batches(lengths, stopping.max_new_tokens):
            started = time.perf_counter()
            written: list[list[int]] = [[] for _ in rows]
            ended = [False] * len(rows)
            picked = [prompts[row] for row in rows]
            for step in self._decode(picked, prefix, stopping, sampling, texts):
                for place, token, stop in step:
                    written[place].append(token)
                    ended[place] = stop
            seconds = (time.perf_counter() - started) / len(rows)
            for place, row in enumerate(rows):
                answers[row] = _answer(
                    texts, written[place], ended[place], len(prompts[row]), seconds
                )
            if progress:
                progress(len(rows))
        return [answers[row] for row in range(len(prompts))]

    @torch.inference_mode()
    def _stream(
        self, prompt: Sequence[int], stopping: Stopping, sampling: Sampling
    ) -> Iterator[str | Answer]:
        started = time.perf_counter()
        texts = Texts(self.tokenizer, stopping)
        prefix = self._runner.shared_prefix([prompt], stopping.max_new_tokens)
        written: list[int] = []
        shown = ""
        ended = False
        for step in self._decode([prompt], prefix, stopping, sampling, texts):
            ((_, token, ended),) = step
            written.append(token)
            text = "" if ended else texts.showable(written)
            if text.startswith(shown) and len(text) > len(shown):
                yield text[len(shown) :]
                shown = text
        seconds = time.perf_counter() - started
        answer = _answer(texts, written, ended, len(prompt), seconds)
        if answer.text.startswith(shown) and len(answer.text) > len(shown):
            yield answer.text[len(shown) :]
        yield answer

    def _decode(
        self,
        prompts: Sequence[Sequence[int]],
        prefix: Prefix,
        stopping: Stopping,
        sampling: Sampling,
        texts: Texts,
    ) -> Iterator[list[tuple[int, int, bool]]]:
        """Yields, for each step, (place, token, ended) of the rows still being written."""
        suffixes = [prompt[prefix.length :] for prompt in prompts]
        rows = self._runner.read(suffixes, prefix, stopping.max_new_tokens)
        draws = [source(sampling.seed, prompt) for prompt in prompts]
        written: list[list[int]] = [[] for _ in prompts]
        places = list(range(len(prompts)))
        live = [True] * len(places)
        for step in range(stopping.max_new_tokens):
            scores = logits(self.model, rows.hidden[:, -1])
            chosen = choose(scores, sampling, [draws[place] for place in places])
            report = []
            for index, place in enumerate(places):
                if live[index]:
                    written[place].append(int(chosen[index]))
                    live[index] = not texts.ended(written[place])
                    report.append((place, written[place][-1], not live[index]))
            yield report
            if not any(live) or step + 1 == stopping.max_new_tokens:
                return
            if sum(live) <= _LIVE * len(live):
                keep = torch.tensor([index for index, alive in enumerate(live) if alive])
                rows.keep(keep.to(self._runner.device))
                chosen = chosen[keep]
                places = [places[int(index)] for index in keep]
                live = [True] * len(places)
            self._runner.append(rows, chosen)

    def _score(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Any],
        progress: Progress | None,
    ) -> tuple[list[list[float]], list[float]]:
        choices = choices_by_row(len(prompts), continuations)
        longest = max((len(ids) for row in choices for ids in row), default=0)
        prefix = self._runner.shared_prefix(prompts, longest)
        # nothing to write is certain
        scores = [[0.0] * len(row) for row in choices]
        seconds = [0.0] * len(prompts)
        if longest == 0:
            return scores, seconds
        # what a row takes is its prompt and all that may follow it: choices differ in length more
        # than prompts do
        sizes = [
            len(prompt) - prefix.length + branch_tokens(own)
            for prompt, own in zip(prompts, choices, strict=True)
        ]
        for lines in self._scored_together(sizes, prefix.copied):
            rows = [row for line in lines for row in line]
            place_of = {row: place for place, row in enumerate(rows)}
            found, spent = score_batch(
                self._runner,
                [prompts[row] for row in rows],
                [choices[row] for row in rows],
                prefix,
                self.batch_tokens,
                [[place_of[row] for row in line] for line in lines],
            )
            for place, row in enumerate(rows):
                scores[row], seconds[row] = found[place], spent
            if progress:
                progress(len(rows))
        return scores, seconds

    def _scored_together(self, sizes: Sequence[int], prefix: int) -> Iterator[list[list[int]]]:
        """Batches of lines of rows, by the tokens that are computed of each row, held together
        with a prefix."""
        runner = self._runner
        held = runner.virtual + prefix + max(sizes, default=0)
        if runner.beyond_window(held):
            alone = self._batches([prefix + size for size in sizes], 0)
            return ([[row] for row in batch] for batch in alone)
        most = max(1, min(self.batch_rows, self.batch_tokens // held))
        computed = self.batch_tokens if runner.device.type == "cuda" else _COMPUTED
        return filled_lines(sizes, tokens=min(computed, self.batch_tokens), most=most)

    def _batches(self, lengths: Sequence[int], new: int) -> Iterator[list[int]]:
        runner = self._runner
        rows = self.batch_rows
        if runner.virtual and runner.beyond_window(max(lengths, default=0) + new):
            # padding would lie between the soft prefix and a row, and a window counts padding too
            rows = 1
        return batches(lengths, runner.virtual + new, tokens=self.batch_tokens, rows=rows)


def _answer(
    texts: Texts, written: list[int], ended: bool, prompt_tokens: int, seconds: float
) -> Answer:
    return Answer(
        text=texts.whole(written),
        seconds=seconds,
        prompt_tokens=prompt_tokens,
        completion_tokens=len(written),
        finish_reason="stop" if ended else "length",
    )
