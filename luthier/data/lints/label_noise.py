"""Labels that the other rows contradict: confident learning, cross-validated."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from luthier.data.examples import Example
from luthier.data.linting import LINTS, Finding, LintContext, number, percent, shortened, sources

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]

#: Fewest rows, and rows of a class, that say something; rarer classes are left out.
FEWEST, FEWEST_OF_CLASS = 100, 5
FOLDS = 5
#: Characters up to which texts are also put through the sentence encoder: ten seconds on two cores.
AFFORDABLE = 100_000
#: Rows times classes up to which a logistic regression on pieces of words is fitted.
FITTABLE = 15_000
#: Texts are read up to here; a label rarely hangs on what comes later.
READ = 2_000
#: A classifier that is right less often than this says little about single rows.
GOOD = 0.85
#: The share of contradicted labels above which a good classifier's word is a warning.
MANY = 0.05


@dataclass(frozen=True)
class Suspicion:
    """How far each label is to be doubted.

    Attributes:
        examples: training rows that were judged, at most `linting.SAMPLE`.
        quality: for each, the cross-validated probability of its own label, 0 to 1.
        doubted: indices of rows that confident learning calls mislabelled, the worst first.
        better: for each of `doubted`, the label the classifier gives.
        accuracy: of the cross-validated classifier, against the labels as they are.
        how: the classifier, in words.
        said: see `Sample.said`.
    """

    examples: tuple[Example, ...]
    quality: Array
    doubted: tuple[int, ...]
    better: tuple[str, ...]
    accuracy: float
    how: str
    said: str


@LINTS.register("label_noise")
def label_noise(context: LintContext) -> Iterator[Finding]:
    """Rows whose label is probably wrong.

    Confident learning (Northcutt, Jiang and Chuang 2021, arXiv 1911.00068) as in cleanlab: the
    rows that both pruning by noise rate and the confident joint call mislabelled.
    """
    found = suspicion(context)
    if found is None or not found.doubted:
        return
    rows = [found.examples[index] for index in found.doubted]
    total = len(found.examples)
    serious = found.accuracy >= GOOD and len(rows) > MANY * total
    first, label = rows[0], found.better[0]
    yield Finding(
        "label_noise",
        "warning" if serious else "note",
        len(rows),
        sources(rows),
        f"{number(len(rows), 'training label')} ({percent(len(rows), total)}{found.said}) "
        f"{'is' if len(rows) == 1 else 'are'} contradicted by the other rows: {found.how} "
        f"({found.accuracy:.0%} right in {FOLDS}-fold cross-validation) is confident of another "
        f"label, as in {shortened(first.input)!r} ({first.source}), labelled "
        f"{shortened(first.output)!r} and probably {shortened(label)!r}. Wrong labels teach the "
        "wrong thing, and in the test they lower the best score that can be reached.",
        "Look at the rows named here, the worst first; most will be hard cases or mistakes. "
        "Correct what is wrong and leave the rest.",
    )


def suspicion(context: LintContext) -> Suspicion | None:
    """How far the training labels are to be doubted; None where that cannot be said."""
    return context.once("label noise", lambda: _suspicion(context))


def _suspicion(context: LintContext) -> Suspicion | None:
    if context.labels is None:
        return None
    import numpy as np

    drawn = context.sample("train")
    counts = Counter(example.output for example in drawn.examples)
    classes = sorted(label for label, rows in counts.items() if rows >= FEWEST_OF_CLASS)
    place = {label: index for index, label in enumerate(classes)}
    examples = tuple(example for example in drawn.examples if example.output in place)
    if len(classes) < 2 or len(examples) < FEWEST:
        return None
    texts = ["\n".join(m.content for m in e.messages)[:READ] for e in examples]
    given = np.array([place[example.output] for example in examples])
    judged = _probabilities(texts, given, len(classes), context)
    if judged is None:
        return None
    likely, how = judged
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    quality = get_label_quality_scores(given, likely, method="self_confidence")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrong = find_label_issues(given, likely, filter_by="both", n_jobs=1)
    order = np.argsort(quality, kind="stable")
    doubted = tuple(int(index) for index in order if wrong[index])
    return Suspicion(
        examples=examples,
        quality=quality,
        doubted=doubted,
        better=tuple(classes[int(likely[index].argmax())] for index in doubted),
        accuracy=float((likely.argmax(1) == given).mean()),
        how=how,
        said=drawn.said,
    )


def _probabilities(
    texts: Sequence[str], given: Array, classes: int, context: LintContext
) -> tuple[Array, str] | None:
    """Out-of-fold probabilities (rows, classes) and the classifier in words.

    Two unlike views are averaged. Words and pairs of words go to naive Bayes on TF-IDF, which
    bears noise better than logistic regression does; the other view is a sentence encoder where
    one is at hand and the texts are few, else pieces of words. On sst2 with 10 % of the labels
    flipped (three seeds), 68 to 72 % of the flipped rows are then among the worst 15 % with the
    encoder, and 62 to 64 % without; TF-IDF with logistic regression alone finds 55 to 57 %.
    """
    import numpy as np
    from scipy.sparse import csr_matrix
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.multiclass import OneVsRestClassifier
    from sklearn.naive_bayes import MultinomialNB

    try:
        # not min_df: a word of one row tells nothing of another, and costs only memory
        words = TfidfVectorizer(
            ngram_range=(1, 2),
            sublinear_tf=True,
            token_pattern=r"(?u)\b\w+\b|[!?]",
            dtype=np.float32,
        ).fit_transform(texts)
    except ValueError:  # nothing but signs
        return None
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)

    def out_of_fold(model: Any, features: Any) -> Array:
        made: Array = cross_val_predict(model, features, given, cv=folds, method="predict_proba")
        return made

    first = out_of_fold(MultinomialNB(alpha=0.3), words)
    regression = OneVsRestClassifier(LogisticRegression(C=3, solver="liblinear"))
    if context.embed is not None and sum(map(len, texts)) <= AFFORDABLE:
        vectors = csr_matrix(context.embed(texts))
        regression = OneVsRestClassifier(LogisticRegression(C=1, solver="liblinear"))
        return (first + out_of_fold(regression, vectors)) / 2, (
            "naive Bayes on words with logistic regression on sentence embeddings"
        )
    try:
        pieces = TfidfVectorizer(
            analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2,
            max_features=200_000, dtype=np.float32,
        ).fit_transform(text[:500] for text in texts)  # fmt: skip
    except ValueError:  # no piece occurs twice
        return first, "naive Bayes on words"
    if len(texts) * (classes if classes > 2 else 1) <= FITTABLE:
        return (first + out_of_fold(regression, pieces)) / 2, (
            "naive Bayes on words with logistic regression on pieces of words"
        )
    return (first + out_of_fold(MultinomialNB(alpha=0.1), pieces)) / 2, (
        "naive Bayes on words and on pieces of words"
    )
