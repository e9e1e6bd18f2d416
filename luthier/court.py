"""The judge of a run: held against pairs that people labelled, then asked about all answers.

Each answer of an arm meets the reference of its row, blind and both ways round; `win_rate` is the
share it wins, ties half. Where `win_rate` decides, a judge that agrees too little with people is
refused before anything is spent on it; where another metric decides, that is only said.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from luthier.errors import InputError
from luthier.evaluation.human_pairs import LabelledPair, labelled_pairs
from luthier.evaluation.judging import (
    JUDGES,
    LEAST_PAIRS,
    Agreement,
    Duel,
    JudgeSettings,
    agreement,
    judge_blind,
)
from luthier.evaluation.metrics.win_rate import WIN_RATE
from luthier.evaluation.scoring import ScoringRows
from luthier.files import hash_of, read_json, write_json
from luthier.generation.answers import Answer
from luthier.progress import Reporter
from luthier.task import Task
from luthier.task_sections import Judge as Wanted


class Court:
    """One judge and what it has to do in one run.

    Args:
        task: one with a `judge`.
        reporter: hears of the progress.

    Raises:
        InputError: the labelled pairs cannot be read, or are too few.
    """

    def __init__(self, task: Task, reporter: Reporter) -> None:
        assert task.judge is not None
        self._wanted: Wanted = task.judge
        self._decides = task.scored_by == WIN_RATE
        self._seed = task.seed
        self._reporter = reporter
        path = task.folder / Path(self._wanted.labelled).expanduser()
        self._pairs: list[LabelledPair] = labelled_pairs(path)
        if len(self._pairs) < LEAST_PAIRS:
            raise InputError(
                f"{path} holds {len(self._pairs)} labelled pairs; to tell whether a judge agrees "
                f"with people at least {LEAST_PAIRS} are needed.",
                fix="Label more pairs; two hundred give a useful interval.",
            )
        settings = JudgeSettings(self._wanted.model, self._wanted.endpoint, self._wanted.key_env)
        self._judge = JUDGES.get("endpoint" if settings.endpoint else "local")(settings)

    def hold(self, folder: Path) -> None:
        """Hold the judge against people, unless that was done in this run.

        Args:
            folder: of the run; gets judge.json.

        Raises:
            InputError: it agrees too little to decide, and is to decide.
            RunError: an endpoint cannot be asked.
        """
        path = folder / "judge.json"
        wanted = {
            "model": self._wanted.model,
            "endpoint": self._wanted.endpoint,
            "pairs_hash": hash_of([asdict(pair) for pair in self._pairs]),
        }
        held = read_json(path) if path.is_file() else {}
        if {key: held.get(key) for key in wanted} == wanted:
            found = Agreement(**held["agreement"])
        else:
            name = f"the judge {self._judge.name}: {len(self._pairs)} labelled pairs"
            with self._reporter.work(name, 2 * len(self._pairs)) as bar:
                found = agreement(self._judge, self._pairs, seed=self._seed, progress=bar.advance)
            write_json(path, {**wanted, "agreement": asdict(found)})
        refusal = found.refusal(self._wanted.least_agreement)
        write_json(path, {**wanted, "agreement": asdict(found), "refused": refusal})
        if refusal is None:
            low, high = found.interval
            self._reporter.say(
                f"The judge {found.judge} agrees with people: kappa {found.kappa:.2f} (95 % "
                f"interval {low:.2f} to {high:.2f}) on {found.pairs:,} labelled pairs."
            )
        elif self._decides:
            raise InputError(
                refusal,
                fix="Choose a stronger judge, or a metric that needs none.",
            )
        else:
            self._reporter.say(refusal)

    def judge(
        self,
        name: str,
        questions: Sequence[str],
        references: Sequence[str],
        answers: Sequence[Answer],
    ) -> None:
        """Write into each answer's `extra` as `judged` whether it is better (1) than its reference,
        worse (0), or neither (0.5)."""
        met = [
            row
            for row, answer in enumerate(answers)
            if answer.text.strip() != references[row].strip()
        ]
        duels = [Duel(questions[row], answers[row].text, references[row]) for row in met]
        with self._reporter.work(f"{name}: judged by {self._judge.name}", 2 * len(duels)) as bar:
            judged = judge_blind(self._judge, duels, bar.advance)
        for answer in answers:
            answer.extra["judged"] = 0.5
        for row, preference in zip(met, judged.preferences, strict=True):
            answers[row].extra["judged"] = (1 + float(preference)) / 2


def judged_of(
    rows: ScoringRows, *, seed: int, clusters: Sequence[Hashable] | None = None
) -> dict[str, Any]:
    """What verdict.json says of an arm as `judged`; nothing where no judge was asked."""
    import numpy as np

    from luthier.evaluation.length_control import at_equal_length

    if rows.judged is None:
        return {}
    wins = np.array(rows.judged, dtype=np.float64)
    longer = np.array(
        [len(p) - len(r) for p, r in zip(rows.predictions, rows.references, strict=True)],
        dtype=np.float64,
    )
    controlled = at_equal_length(wins, longer, seed=seed, clusters=clusters)
    return {
        "judged": {
            "win_rate": float(wins.mean()),
            "ties": float((wins == 0.5).mean()),
            "at_equal_length": controlled.win_rate,
            "interval": list(controlled.interval),
            "length_effect": controlled.length_effect,
        }
    }
