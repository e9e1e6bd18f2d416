"""Answers that their length alone gives away."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from luthier.data.linting import LINTS, Finding, LintContext, sources

#: Fewest rows and most classes that are looked at.
FEWEST, CLASSES = 200, 20
#: How far above always guessing the largest class length alone must get, as a share of what
#: is left to get, before it is a shortcut.
GAIN = 0.5
FOLDS = 5


@LINTS.register("length_shortcut")
def length_shortcut(context: LintContext) -> Iterator[Finding]:
    """Labels that can be told from how long the input is.

    A shallow tree is cross-validated on the numbers of characters, words and lines alone.
    """
    if context.labels is None:
        return
    drawn = context.sample("train")
    counts = Counter(example.output for example in drawn.examples)
    kept = [e for e in drawn.examples if counts[e.output] >= FOLDS]
    classes = {example.output for example in kept}
    if len(kept) < FEWEST or not 2 <= len(classes) <= CLASSES:
        return
    import numpy as np
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.tree import DecisionTreeClassifier

    lengths = np.array(
        [
            (len(text), len(text.split()), text.count("\n"))
            for text in ("\n".join(m.content for m in e.messages) for e in kept)
        ]
    )
    labels = np.array([example.output for example in kept])
    tree = DecisionTreeClassifier(max_depth=4, min_samples_leaf=max(5, len(kept) // 200))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    right = float((cross_val_predict(tree, lengths, labels, cv=folds) == labels).mean())
    floor = max(counts[label] for label in classes) / len(kept)
    if right - floor <= GAIN * (1 - floor):
        return
    middles = {
        label: float(np.median(lengths[labels == label, 0]))
        for label, _ in counts.most_common()
        if label in classes
    }
    shown = ", ".join(f"{label} {middle:,.0f}" for label, middle in list(middles.items())[:6])
    yield Finding(
        "length_shortcut",
        "warning",
        len(kept),
        sources(kept),
        f"The length of the input alone gives the label away: a small tree on it is right on "
        f"{right:.0%} of the training rows{drawn.said} in cross-validation, and always naming the "
        f"largest class on {floor:.0%}. Characters in the middle: {shown}. A model learns the "
        "length instead of the meaning, and fails where lengths are alike.",
        "Find out where the lengths come from (two sources, a cut-off, boilerplate), and make "
        "them alike.",
    )
