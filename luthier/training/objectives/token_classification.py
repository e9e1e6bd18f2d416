"""One tag for every word: named entities by a head over tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from luthier.data.examples import Example
from luthier.errors import InputError
from luthier.evaluation.metrics.spans import parse_entities, place_entities
from luthier.models.encoding import windows
from luthier.models.tags import tag_names, tags_of
from luthier.training.head_objective import HeadObjective, LabelItem
from luthier.training.losses import IGNORED
from luthier.training.objective import OBJECTIVES, Material

if TYPE_CHECKING:
    from luthier.training.config import TrainingConfig


@OBJECTIVES.register("token-classification")
class TokenClassification(HeadObjective):
    """Cross-entropy of the BIO tag of each word, at the word's first token (Devlin et al. 2019,
    arXiv 1810.04805, section 5.3).

    What is learned from is the text that kind ner has everywhere: the words of the input (between
    white space), and as output one entity a line, `type: surface`. A surface is found in the words
    in the way its score finds it (`evaluation/metrics/spans.py`). Texts that are longer than the
    model reads become several items; no word is lost.
    """

    name = "token-classification"
    title = "Tagging by a head"
    of = "token"

    def material(
        self,
        examples: Sequence[Example],
        validation: Sequence[Example],
        config: TrainingConfig,
    ) -> Material:
        """One item for each window of a text.

        Raises:
            InputError: no entity in any of the training rows; the output of a row is not of the
                form that entities have.
        """
        types = spelled_types(examples)
        if not types:
            raise InputError(
                "No training example has an entity to learn.", fix="Check `data.output`."
            )
        self.labels = tag_names(sorted(types.values()))
        place = {tag: index for index, tag in enumerate(self.labels)}
        made = Material([], [])
        lost: list[str] = []
        for index, example in enumerate(examples):
            tags, missing = word_tags(example, types)
            lost += [f"{surface!r} ({example.source})" for surface in missing]
            for item in self._items(example, [place[tag] for tag in tags], config):
                made.items.append(item)
                made.kept.append(index)
        if lost:
            shown = ", ".join(lost[:5]) + (" ..." if len(lost) > 5 else "")
            made.notes.append(
                f"{len(lost)} entities are not among the words of their text and were not learned: "
                f"{shown}."
            )
        split = len(made.items) - len(set(made.kept))
        if split:
            made.notes.append(f"Texts longer than {config.max_tokens} tokens were read in parts.")
        for example in validation:
            tags, _ = word_tags(example, types)
            made.held_out += self._items(example, [place.get(tag, 0) for tag in tags], config)
        return made

    def _items(
        self, example: Example, tags: Sequence[int], config: TrainingConfig
    ) -> list[LabelItem]:
        items = []
        for window in windows(self.tokenizer, example.input, config.max_tokens):
            targets = [IGNORED] * len(window.ids)
            for word, position in window.words.items():
                targets[position] = tags[word]
            if window.words:
                items.append(LabelItem(window.ids, targets))
        return items


def spelled_types(examples: Sequence[Example]) -> dict[str, str]:
    """The entity types of the examples' outputs: lower case -> as first written.

    Raises:
        InputError: an output that is no list of entities.
    """
    types: dict[str, str] = {}
    for example in examples:
        _, broken = parse_entities(example.output)
        if broken:
            raise InputError(
                f"{example.source}: {broken} lines of the output are no entities.",
                fix="Write one entity a line as `type: surface`, or `none`.",
            )
        for line in example.output.splitlines():
            kind, colon, _ = line.partition(":")
            if colon:
                types.setdefault(kind.strip().casefold(), kind.strip())
    return types


def word_tags(example: Example, types: dict[str, str]) -> tuple[list[str], list[str]]:
    """(the tag of each word of the example's input, the surfaces that are not among its words)."""
    words = example.input.split()
    spans, missing = [], []
    for found in place_entities(words, parse_entities(example.output)[0]):
        if len(found) == 3:
            kind, start, size = found
            spelled = types.get(str(kind), str(kind))
            spans.append((spelled, int(str(start)), int(str(size))))
        else:
            missing.append(str(found[1]))
    return tags_of(spans, len(words)), missing
