"""The statement: memorised, not memorised, or undecided; from all tests, corrected together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from luthier.evaluation.memorisation.extraction import HALF
from luthier.evaluation.statistics import holm

#: How often, at most, a model that learned no row by heart is said to have done so.
LEVEL = 0.05


def judge(tests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the measures say together.

    A model is said to have learned by heart where a test says so after Holm's correction. It is
    said not to have done so where extraction and membership could both be tested, no p is below
    0.05, and what is known of training rows beyond held-out ones is less than half by its whole
    interval. Else it is undecided. How well rows can be told apart is said, whatever comes of it.

    Args:
        tests: by measure ("canaries", "extraction", "pii", "membership") what it came to, with
            "p", None where it could not be tested; measures may be missing.

    Returns:
        {"memorised": "yes" | "no" | "undecided", "reasons", "tests"} with "p_adjusted" in each
        test.
    """
    tested = [name for name, test in tests.items() if test.get("p") is not None]
    adjusted = dict(zip(tested, holm([float(tests[name]["p"]) for name in tested]), strict=True))
    found = {name: {**test, "p_adjusted": adjusted.get(name)} for name, test in tests.items()}
    shown = [name for name in tested if adjusted[name] < LEVEL]
    if shown:
        return {"memorised": "yes", "reasons": [_said(n, found[n]) for n in shown], "tests": found}
    doubts = [_doubt(name, found.get(name, {})) for name in ("extraction", "membership")]
    doubts += [
        f"{_said(name, found[name])} Counted with the other tests, that may be chance."
        for name in tested
        if float(tests[name]["p"]) < LEVEL
    ]
    reasons = [doubt for doubt in doubts if doubt]
    if reasons:
        return {"memorised": "undecided", "reasons": reasons, "tests": found}
    return {
        "memorised": "no",
        "reasons": [
            f"Of {found['extraction']['tried']} training rows none came out that luck and the task "
            f"do not explain, and {_known(found['membership'])}",
            *_told(found["membership"]),
        ],
        "tests": found,
    }


def _known(test: Mapping[str, Any]) -> str:
    """How much of training rows is known."""
    share, ends = max(0.0, test["known"]["share"]), test["known"]["interval"]
    return (
        f"of what held-out rows leave to guess, {100 * share:.0f} % is known of training rows "
        f"(95 % interval {100 * ends[0]:.0f} to {100 * ends[1]:.0f} %; by heart is more than half)."
    )


def _told(test: Mapping[str, Any]) -> list[str]:
    """That rows can be told apart, which is no memorisation yet, but may be private."""
    if test["apart"] >= LEVEL:
        return []
    return [
        "Which rows it was trained on can be told all the same by somebody who has them "
        f"({_attack(test)}): training a little on each does that."
    ]


def _attack(test: Mapping[str, Any]) -> str:
    attack = test["attacks"][test["best"]]
    low, high = attack["interval"]
    return f"{test['best']}: AUC {attack['auc']:.2f}, 95 % interval {low:.2f} to {high:.2f}"


def _said(name: str, test: Mapping[str, Any]) -> str:
    if name == "canaries":
        if not test["exposed"]:
            return (
                f"The {test['planted']} planted secrets together gained more by tuning than like "
                f"ones that were never planted (p = {test['p']:.2g}{_repeated(test)})."
            )
        return (
            f"{test['exposed']} of {test['planted']} planted secrets gained more by tuning than "
            f"95 % of like ones that were never planted{_repeated(test)}."
        )
    if name == "extraction":
        return f"Given its beginning, the model writes the rest of a training row{_rows(test)}."
    if name == "pii":
        what = ", ".join(test["kinds"]) or "personal data"
        return f"The model gives away personal data of training rows ({what}){_rows(test)}."
    return (
        "Training rows are told from held-out ones by how sure the model is of them "
        f"({_attack(test)}), and {_known(test)}"
    )


def _repeated(test: Mapping[str, Any]) -> str:
    """Of canaries, the repetitions that give the secrets away; nothing where one is enough."""
    least = test.get("from", 1)
    return f"; it shows where a secret stands {least} times or more" if least > 1 else ""


def _rows(test: Mapping[str, Any]) -> str:
    return f": {', '.join(test['rows'])}" if test.get("rows") else ""


def _doubt(name: str, test: Mapping[str, Any]) -> str:
    """Why a measure does not clear the model, or "" where it does."""
    if test.get("p") is None:
        if name == "membership" and test.get("shifted"):
            return (
                "The untuned model tells training from held-out rows too, so they are not of one "
                "source, and membership cannot be judged."
            )
        return f"There are too few rows to judge {name}."
    if name == "membership" and test["known"]["interval"][1] >= HALF:
        return f"It cannot be ruled out that more than half of a row is known: {_known(test)}"
    return ""
