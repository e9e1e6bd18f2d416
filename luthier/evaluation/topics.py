"""Topics of texts: clusters of similar ones, named by the words that set them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from luthier.data.words import folded_words

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Topics at most, and texts that each has on average at least.
MOST, TEXTS_EACH = 8, 25
#: Words in a topic's name.
NAMED_BY = 3
#: The share of texts above which a word says nothing of any.
_COMMON = 0.3
#: What questions begin with sets topics apart, unlike the other words of grammar.
_ASKS = frozenset({"how", "what", "when", "where", "which", "who", "whom", "whose", "why"})
#: Dimensions of what words are pressed into before texts are clustered by them.
_DIMENSIONS = 50
#: Texts above which the clusters are found on parts of them at a time.
_MANY = 10_000


def topics(texts: Sequence[str], vectors: Array | None = None, *, seed: int = 0) -> list[str]:
    """A topic for each text, by k-means; nothing where there are too few texts or words.

    Args:
        texts: at least 50 of them, or there are no topics.
        vectors: (texts, d), what a sentence encoder makes of them; the TF-IDF of their words when
            None.
        seed: of the clustering.

    Returns:
        The name of each text's topic: its most typical words, "refund, money, charged". Typical
        are those whose mean TF-IDF is furthest above that of the other texts.
    """
    count = min(MOST, len(texts) // TEXTS_EACH)
    if count < 2:
        return []
    import numpy as np

    found = _weighed(texts)
    if found is None:
        return []
    table, words = found
    codes = _clustered(_pressed(table, seed) if vectors is None else vectors, count, seed)
    total = np.asarray(table.sum(axis=0)).ravel()
    names: dict[int, str] = {}
    for code in np.unique(codes):
        inside = codes == code
        own = np.asarray(table[inside].sum(axis=0)).ravel()
        others = max(1, int((~inside).sum()))
        contrast = own / inside.sum() - (total - own) / others
        order = sorted(range(len(words)), key=lambda word: (-contrast[word], words[word]))
        typical = [words[word] for word in order[:NAMED_BY] if contrast[word] > 0]
        name = ", ".join(typical) or "no words of its own"
        names[int(code)] = name if name not in names.values() else f"{name} ({code + 1})"
    return [names[int(code)] for code in codes]


def _weighed(texts: Sequence[str]) -> tuple[Any, list[str]] | None:
    """TF-IDF (texts, words), and the words; None where no word is in two texts."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    # what is in many texts tells none from another: "the", an instruction that all repeat
    weigher = TfidfVectorizer(analyzer=_words, min_df=2, max_df=_COMMON, sublinear_tf=True)
    try:
        table = weigher.fit_transform(texts)
    except ValueError:  # an empty vocabulary
        return None
    return table, list(weigher.get_feature_names_out())


def _words(text: str) -> list[str]:
    """Words that may say what a text is about; a letter alone says nothing, an ideograph does."""
    from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

    return [
        word
        for word in folded_words(text).split()
        if (len(word) > 1 or not word.isascii())
        and not any(c.isdigit() for c in word)
        and (word not in ENGLISH_STOP_WORDS or word in _ASKS)
    ]


def _pressed(table: Any, seed: int) -> Array:
    """Latent semantic analysis: texts that share no word, but words that go together, are near."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.preprocessing import normalize

    size = min(_DIMENSIONS, min(table.shape) - 1)
    if size < 2:
        dense: Array = table.toarray()
        return dense
    pressed: Array = TruncatedSVD(size, random_state=seed).fit_transform(table)
    level: Array = normalize(pressed)
    return level


def _clustered(table: Any, count: int, seed: int) -> Array:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    kind = KMeans if table.shape[0] <= _MANY else MiniBatchKMeans
    found: Array = kind(n_clusters=count, n_init=4, random_state=seed).fit_predict(table)
    return found
