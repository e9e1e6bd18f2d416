"""How answers behave, whatever they say: length, repetition, cut off, put off, language, ending.

Word lists and the language identifier are those of the data checks, so that a habit found in the
training rows and the same habit in the answers are counted alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from luthier.evaluation.manner import manner
from luthier.evaluation.statistics import wilson_interval

#: Kinds whose answers are text.
KINDS = frozenset({"qa", "summarization", "translation", "generation", "chat"})
#: Words of the runs that may repeat.
RUN = 4


def behaviour(
    kind: str,
    references: Sequence[str],
    predictions: Sequence[str],
    *,
    endings: Sequence[str | None] = (),
    wanted: Sequence[str] = (),
) -> dict[str, Any] | None:
    """What is to be said of one arm's answers; None for kinds whose answers are no text.

    Args:
        kind: the task's.
        references: the right answers; of several to a question the first counts.
        predictions: the answers given, in the same order.
        endings: for each answer "stop" (it ended by itself), "length" (it hit the limit), or None
            where that is not known; empty for an arm that does not write.
        wanted: outputs as the user would like them.

    Returns:
        `words` (median), `length_ratio` (words of all answers / of all references) and
        `length_ratio_wanted` (median against median), `repetition` and `repetition_of_references`,
        and shares with their Wilson intervals (`{"share", "interval", "of"}`): `ended`, `cut_off`,
        `answers_nothing`, `references_answer_nothing`, `same_language` of the rows on which both
        languages can be told; and `manner`, tone and format beside the wanted outputs
        (`manner.py`). What cannot be known is None.
    """
    if kind not in KINDS or not predictions:
        return None
    from luthier.data.lints.deferrals import KINDS as ANSWERED
    from luthier.data.lints.deferrals import says_nothing

    if kind == "qa":  # any one of several right answers is enough
        from luthier.evaluation.metrics.squad import told_answers

        references = [told_answers(reference)[0] for reference in references]
    lengths, right = _words(predictions), _words(references)
    told = [ending for ending in endings if ending is not None]
    put_off = [
        sum(says_nothing(text, to_people=kind != "qa") for text in texts)
        if kind in ANSWERED
        else None
        for texts in (predictions, references)
    ]
    return {
        "words": float(np.median(lengths)),
        "length_ratio": _ratio(sum(lengths), sum(right)),
        "length_ratio_wanted": _ratio(np.median(lengths), np.median(_words(wanted)))
        if wanted
        else None,
        "repetition": repetition(predictions),
        "repetition_of_references": repetition(references),
        "ended": _share(told.count("stop") if told else None, len(told)),
        "cut_off": _share(told.count("length") if told else None, len(told)),
        "answers_nothing": _share(put_off[0], len(predictions)),
        "references_answer_nothing": _share(put_off[1], len(references)),
        "same_language": _same_language(references, predictions),
        "manner": manner(predictions, references, wanted),
    }


def repetition(texts: Sequence[str]) -> float | None:
    """The share of runs of four words that were in the same text before, over all texts.

    Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training" (seq-rep-4), summed
    over texts. None where no text has four words.
    """
    from luthier.data.words import folded_words

    runs = again = 0
    for text in texts:
        words = folded_words(text).split()
        found = [tuple(words[i : i + RUN]) for i in range(len(words) - RUN + 1)]
        runs += len(found)
        again += len(found) - len(set(found))
    return again / runs if runs else None


def _words(texts: Sequence[str]) -> list[int]:
    from luthier.data.words import folded_words

    return [len(folded_words(text).split()) for text in texts]


def _ratio(above: float, below: float) -> float | None:
    return float(above / below) if below else None


def _share(count: int | None, of: int) -> dict[str, Any] | None:
    if count is None or not of:
        return None
    return {"share": count / of, "interval": list(wilson_interval(count, of)), "of": of}


def _same_language(references: Sequence[str], predictions: Sequence[str]) -> dict[str, Any] | None:
    from luthier.data.lints.languages import identify

    pairs = zip(identify(references), identify(predictions), strict=True)
    both = [(wanted, given) for wanted, given in pairs if wanted and given]
    return _share(sum(wanted == given for wanted, given in both) if both else None, len(both))
