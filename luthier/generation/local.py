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
from dataclasses import dataclass
from typing import Any

import torch

from luthier.generation.answers import Answer
from luthier.generation.cache import RoomyCache
from luthier.generation.options import Sampling, Stopping
from luthier.models.heads import body, logits

Progress = Callable[[int], None]


class Generator:
    """Writes and scores with one causal model.

    Args:
        model: a Hugging Face causal LM in evaluation mode.
        tokenizer: its tokenizer.
        batch_tokens: how many cached tokens (rows x length) one batch may hold; bounds memory.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, batch_tokens: int = 8192, batch_rows: int = 64
    ) -> None:
        self.model = model.eval()
        self.tokenizer = tokenizer
        self.batch_tokens = batch_tokens
        self.batch_rows = batch_rows
        self.device = next(model.parameters()).device
        self._layers = int(model.config.get_text_config().num_hidden_layers)
        self._prefix: tuple[tuple[int, ...], RoomyCache] | None = None
        # answerers that share this model may be served from different threads
        self._lock = threading.RLock()

    # ---- writing -------------------------------------------------------------------------------

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        stopping: Stopping,
        sampling: Sampling | None = None,
        progress: Progress | None = None,
    ) -> list[Answer]:
        """An answer to each prompt (token ids), in the order given."""
        with self._lock, torch.inference_mode():
            return self._generate(prompts, stopping, sampling, progress)

    def _generate(
        self,
        prompts: Sequence[Sequence[int]],
        stopping: Stopping,
        sampling: Sampling | None,
        progress: Progress | None,
    ) -> list[Answer]:
        sampling = sampling or Sampling()
        prefix = self._shared_prefix(prompts)
        answers: list[Answer | None] = [None] * len(prompts)
        for rows in self._batches([len(p) for p in prompts], stopping.max_new_tokens):
            started = time.perf_counter()
            written: list[list[int]] = [[] for _ in rows]
            ended = [False] * len(rows)
            suffixes = [prompts[row][prefix.length :] for row in rows]
            for step in self._decode(suffixes, prefix, stopping, sampling, rows):
                for place, token, stop in step:
                    written[place].append(token)
                    ended[place] = stop
            seconds = (time.perf_counter() - started) / len(rows)
            for place, row in enumerate(rows):
                answers[row] = Answer(
                    text=self._text(written[place], stopping),
                    seconds=seconds,
                    prompt_tokens=len(prompts[row]),
                    completion_tokens=len(written[place]),
                    finish_reason="stop" if ended[place] else "length",
                )
            if progress:
                progress(len(rows))
        return [answer for answer in answers if answer is not None]

    def stream(
        self, prompt: Sequence[int], stopping: Stopping, sampling: Sampling | None = None
    ) -> Iterator[str | Answer]:
        """The answer to one prompt, piece by piece; the last item is the whole `Answer`."""
        with self._lock:
            yield from self._stream(prompt, stopping, sampling)

    @torch.inference_mode()
    def _stream(
        self, prompt: Sequence[int], stopping: Stopping, sampling: Sampling | None
    ) -> Iterator[str | Answer]:
        started = time.perf_counter()
        sampling = sampling or Sampling()
        prefix = self._prefix_in_use(prompt)
        written: list[int] = []
        shown = ""
        ended = False
        longest = max((len(s) for s in stopping.strings), default=1) - 1
        for step in self._decode([prompt[prefix.length :]], prefix, stopping, sampling, [0]):
            ((_, token, ended),) = step
            written.append(token)
            text = self._text(written, stopping, finished=False)
            # hold back half a character, and what may turn out to start a stop string
            if not ended:
                text = text.removesuffix("\ufffd")
                text = text[: len(text) - longest].rstrip() if longest else text.rstrip()
            if text.startswith(shown) and len(text) > len(shown):
                yield text[len(shown) :]
                shown = text
        whole = self._text(written, stopping)
        if whole.startswith(shown) and len(whole) > len(shown):
            yield whole[len(shown) :]
        yield Answer(
            text=whole,
            seconds=time.perf_counter() - started,
            prompt_tokens=len(prompt),
            completion_tokens=len(written),
            finish_reason="stop" if ended else "length",
        )

    # ---- scoring -------------------------------------------------------------------------------

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
        """
        with self._lock, torch.inference_mode():
            return self._score(prompts, continuations, progress)

    def _score(
        self,
        prompts: Sequence[Sequence[int]],
        continuations: Sequence[Any],
        progress: Progress | None,
    ) -> tuple[list[list[float]], list[float]]:
        per_row: list[Sequence[Sequence[int]]] = (
            list(continuations)
            if continuations and continuations[0] and not isinstance(continuations[0][0], int)
            else [continuations] * len(prompts)
        )
        prefix = self._shared_prefix(prompts)
        scores: list[list[float]] = [[] for _ in prompts]
        seconds = [0.0] * len(prompts)
        for rows in self._batches([len(p) for p in prompts], 0):
            started = time.perf_counter()
            cache, hidden, mask, positions = self._read(
                [prompts[row][prefix.length :] for row in rows], prefix, room=0
            )
            first = torch.log_softmax(logits(self.model, hidden[:, -1]), dim=-1)
            pairs = [
                (place, choice, list(ids))
                for place, row in enumerate(rows)
                for choice, ids in enumerate(per_row[row])
            ]
            totals = [float(first[place, ids[0]]) for place, _, ids in pairs]
            longer = [index for index, (_, _, ids) in enumerate(pairs) if len(ids) > 1]
            longer.sort(key=lambda index: len(pairs[index][2]))
            length = cache.get_seq_length()
            at_once = max(1, self.batch_tokens // (length + 8))
            for start in range(0, len(longer), at_once):
                chunk = longer[start : start + at_once]
                more = self._score_rest(
                    [pairs[i][0] for i in chunk],
                    [pairs[i][2] for i in chunk],
                    cache,
                    mask,
                    positions,
                )
                for index, value in zip(chunk, more, strict=True):
                    totals[index] += value
            for (place, _, _), total in zip(pairs, totals, strict=True):
                scores[rows[place]].append(total)
            spent = (time.perf_counter() - started) / len(rows)
            for row in rows:
                seconds[row] = spent
            if progress:
                progress(len(rows))
        return scores, seconds

    def _score_rest(
        self,
        places: list[int],
        ids: list[list[int]],
        cache: RoomyCache,
        mask: torch.Tensor,
        positions: torch.Tensor,
    ) -> list[float]:
        """Log-likelihood of ids[1:] given the row's cache and ids[0]."""
        longest = max(len(choice) for choice in ids) - 1
        length = cache.get_seq_length()
        picked = torch.tensor(places, device=self.device)
        # a cache for these pairs: each row's own tokens, repeated for its choices
        own = RoomyCache(self._layers, len(places), length + longest)
        for mine, theirs in zip(own.layers, cache.layers, strict=True):
            mine.update(theirs.keys.index_select(0, picked), theirs.values.index_select(0, picked))
        inputs = torch.zeros(len(places), longest, dtype=torch.long, device=self.device)
        targets = torch.zeros_like(inputs)
        counts = torch.zeros(len(places), longest, dtype=torch.bool, device=self.device)
        for row, choice in enumerate(ids):
            inputs[row, : len(choice) - 1] = torch.tensor(choice[:-1])
            targets[row, : len(choice) - 1] = torch.tensor(choice[1:])
            counts[row, : len(choice) - 1] = True
        # padding is on the right here: no real token attends to what comes after it
        hidden = body(self.model)(
            input_ids=inputs,
            attention_mask=torch.cat([mask[picked], torch.ones_like(inputs)], dim=1),
            position_ids=positions[picked][:, None] + torch.arange(longest, device=self.device),
            past_key_values=own,
            use_cache=True,
        ).last_hidden_state
        likelihood = torch.zeros(len(places), dtype=torch.float64)
        where = counts.nonzero()
        for part in where.split(1024):
            rows, columns = part.unbind(1)
            found = torch.log_softmax(logits(self.model, hidden[rows, columns]), dim=-1)
            value = found.gather(1, targets[rows, columns][:, None])[:, 0].double().cpu()
            likelihood.index_add_(0, rows.cpu(), value)
        return [float(value) for value in likelihood]

    # ---- inside --------------------------------------------------------------------------------

    def _batches(self, lengths: list[int], new: int) -> Iterator[list[int]]:
        """Rows of similar length together, longest first so that too much shows at once."""
        order = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
        batch: list[int] = []
        for row in order:
            longest = lengths[batch[0]] if batch else lengths[row]
            full = (len(batch) + 1) * (longest + new) > self.batch_tokens
            if batch and (full or len(batch) >= self.batch_rows):
                yield batch
                batch = []
            batch.append(row)
        if batch:
            yield batch

    def _shared_prefix(self, prompts: Sequence[Sequence[int]]) -> _Prefix:
        """The tokens that all prompts start with, computed (or found computed before)."""
        length = 0
        if prompts:
            # what the first and the last in lexical order share, all share
            ordered = sorted(list(p) for p in prompts)
            low, high = ordered[0], ordered[-1]
            limit = min(len(p) for p in prompts) - 1
            while length < limit and low[length] == high[length]:
                length += 1
        if len(prompts) < 2 or length < 8:
            return self._prefix_in_use(prompts[0]) if len(prompts) == 1 else _Prefix(0, None)
        ids = tuple(prompts[0][:length])
        if self._prefix is None or self._prefix[0] != ids:
            cache = RoomyCache(self._layers, 1, length)
            body(self.model)(
                input_ids=torch.tensor([ids], device=self.device),
                past_key_values=cache,
                use_cache=True,
            )
            self._prefix = (ids, cache)
        return _Prefix(length, self._prefix[1])

    def _prefix_in_use(self, prompt: Sequence[int]) -> _Prefix:
        """A prefix computed earlier, when this prompt starts with it too."""
        if self._prefix is not None:
            ids, cache = self._prefix
            if len(prompt) > len(ids) and tuple(prompt[: len(ids)]) == ids:
                return _Prefix(len(ids), cache)
        return _Prefix(0, None)

    def _read(
        self, suffixes: list[Sequence[int]], prefix: _Prefix, room: int
    ) -> tuple[RoomyCache, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Run the prompts; returns cache, last hidden states (rows, 1, hidden), the mask over
        cached tokens (rows, tokens) and the next position of each row (rows,)."""
        rows, width = len(suffixes), max(len(s) for s in suffixes)
        ids = torch.zeros(rows, width, dtype=torch.long)
        mask = torch.ones(rows, prefix.length + width, dtype=torch.long)
        for row, suffix in enumerate(suffixes):
            pad = width - len(suffix)
            ids[row, pad:] = torch.tensor(list(suffix))
            mask[row, prefix.length : prefix.length + pad] = 0
        ids, mask = ids.to(self.device), mask.to(self.device)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, prefix.length :]
        cache = RoomyCache(self._layers, rows, prefix.length + width + room, prefix.cache)
        padded = bool((mask == 0).any())
        hidden = body(self.model)(
            input_ids=ids,
            # without padding no mask is needed, and the faster causal kernel serves
            attention_mask=mask if padded else None,
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state[:, -1:]
        return cache, hidden, mask, positions[:, -1] + 1

    def _decode(
        self,
        suffixes: list[Sequence[int]],
        prefix: _Prefix,
        stopping: Stopping,
        sampling: Sampling,
        names: list[int],
    ) -> Iterator[list[tuple[int, int, bool]]]:
        """Yields, for each step, (place, token, ended) of the rows still being written."""
        cache, hidden, mask, positions = self._read(suffixes, prefix, stopping.max_new_tokens)
        places = list(range(len(suffixes)))
        live = [True] * len(places)
        texts: list[list[int]] = [[] for _ in suffixes]
        # one source of randomness a row, so that a row's draw does not depend on its neighbours
        draws = [torch.Generator().manual_seed(sampling.seed * 1_000_003 + name) for name in names]
        for step in range(stopping.max_new_tokens):
            chosen = _choose(
                logits(self.model, hidden[:, -1]), sampling, [draws[p] for p in places]
            )
            report = []
            for index, place in enumerate(places):
                if not live[index]:
                    continue
                token = int(chosen[index])
                texts[place].append(token)
                ended = token in stopping.ids or (
                    bool(stopping.strings) and self._has_stop_string(texts[place], stopping)
                )
                report.append((place, token, ended))
                live[index] = not ended
            yield report
            if not any(live) or step + 1 == stopping.max_new_tokens:
                return
            if sum(live) <= 0.75 * len(live):
                keep = torch.tensor([i for i, alive in enumerate(live) if alive])
                keep = keep.to(self.device)
                cache.keep_rows(keep)
                mask, positions, chosen = mask[keep], positions[keep], chosen[keep.cpu()]
                places = [places[int(i)] for i in keep]
                live = [True] * len(places)
            mask = torch.cat([mask, mask.new_ones(len(places), 1)], dim=1)
            hidden = body(self.model)(
                input_ids=chosen.to(self.device)[:, None],
                attention_mask=mask,
                position_ids=positions[:, None],
                past_key_values=cache,
                use_cache=True,
            ).last_hidden_state
            positions = positions + 1

    def _has_stop_string(self, ids: list[int], stopping: Stopping) -> bool:
        tail = self.tokenizer.decode(ids[-24:])
        return any(stop in tail for stop in stopping.strings)

    def _text(self, ids: list[int], stopping: Stopping, *, finished: bool = True) -> str:
        if ids and ids[-1] in stopping.ids:
            ids = ids[:-1]
        text = str(self.tokenizer.decode(ids, skip_special_tokens=True))
        for stop in stopping.strings:
            text = text.split(stop, 1)[0]
        return text.strip() if finished else text.lstrip()


@dataclass(frozen=True)
class _Prefix:
    length: int
    cache: RoomyCache | None


def _choose(scores: torch.Tensor, sampling: Sampling, draws: list[torch.Generator]) -> torch.Tensor:
    """One token id a row, on the CPU, from float32 logits (rows, vocabulary)."""
    if sampling.temperature == 0:
        return scores.argmax(dim=-1).cpu()
    probabilities = torch.softmax(scores.cpu().double() / sampling.temperature, dim=-1)
    ranked, order = probabilities.sort(dim=-1, descending=True)
    # the nucleus: the fewest tokens whose probabilities reach top_p (Holtzman et al. 2020)
    outside = ranked.cumsum(dim=-1) - ranked >= sampling.top_p
    ranked = ranked.masked_fill(outside, 0.0)
    picks = [
        torch.multinomial(row, 1, generator=draw) for row, draw in zip(ranked, draws, strict=True)
    ]
    return order.gather(1, torch.stack(picks))[:, 0]
