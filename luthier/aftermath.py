"""What tuning did to a model besides the task: what it forgot, and what it learned by heart.

The untuned model is asked once for all arms; its answers to the probes are kept in probes.json.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luthier.data.examples import Example
from luthier.errors import InputError
from luthier.evaluation.memorisation.canaries import Canary, make_canaries, planted
from luthier.files import read_json, write_json
from luthier.progress import Reporter
from luthier.task import Task

if TYPE_CHECKING:
    from luthier.arms.base import Answerer
    from luthier.evaluation.memorisation.auditing import Auditor
    from luthier.evaluation.probe_items import Probes
    from luthier.generation.local import Generator
    from luthier.models.pool import ModelPool


#: Characters of a token, about.
_CHARACTERS = 4


class Aftermath:
    """Looks at the tuned models of one comparison, or of one training stage.

    Args:
        task: says by which probes, and whether memorisation is looked for.
        train: training rows, without canaries.
        held_out: rows no model is trained on.
        folder: where probes.json is kept.
        pool: of the untuned model.
        reporter: hears of the progress.
        probes: of the task (`probes_of`).
        model: that is tuned, where it is not the task's.
    """

    def __init__(
        self,
        task: Task,
        train: Sequence[Example],
        held_out: Sequence[Example],
        folder: Path,
        pool: ModelPool,
        reporter: Reporter,
        *,
        probes: Probes,
        model: str | None = None,
    ) -> None:
        self._task = task
        self._train = train
        self._held_out = held_out
        self._folder = folder
        self._pool = pool
        self._reporter = reporter
        self._model = model or task.model
        self._probes = probes
        self._canaries = canaries_of(task)
        self._auditor: Auditor | None = None
        self._seconds: float | None = None
        for note in self._probes.notes:
            reporter.say(note)

    def before(self) -> None:
        """Ask the untuned model, unless that was done."""
        path = self._folder / "probes.json"
        wanted = {"model": self._model, "probes": self._probes.hash}
        held = read_json(path) if path.is_file() else {}
        if {key: held.get(key) for key in wanted} != wanted:
            write_json(
                path,
                wanted
                | measured(
                    self._pool.generator(self._model),
                    self._probes,
                    self._reporter,
                    "probing what the model knows",
                ),
            )

    def seconds(self) -> float:
        """About how long `after` takes for one arm; see `aftermath_seconds`."""
        if self._seconds is None:  # asked before every arm
            self._seconds = aftermath_seconds(
                self._task, self._train, self._held_out, self._probes, model=self._model
            )
        return self._seconds

    def after(self, answerer: Answerer) -> dict[str, Any]:
        """What arm.json holds as `forgetting` and `memorisation`; None where not measured."""
        generator = answerer.own_generator
        if generator is None:
            return {"forgetting": None, "memorisation": None}
        from luthier.evaluation.forgetting import Measured, changed

        held = read_json(self._folder / "probes.json")
        after = measured(generator, self._probes, self._reporter, "probing what was forgotten")
        forgetting = changed(
            self._probes,
            Measured.from_dict(held),
            Measured.from_dict(after),
            seed=self._task.seed,
        )
        return {"forgetting": forgetting, "memorisation": self._memorised(answerer, generator)}

    def _memorised(self, answerer: Answerer, generator: Generator) -> dict[str, Any] | None:
        from luthier.evaluation.memorisation.auditing import Auditor

        prompt = getattr(answerer, "prompt", None)
        if not audits(self._task) or prompt is None:
            return None
        if self._auditor is None:
            self._auditor = Auditor(
                self._train,
                self._held_out,
                lambda: self._pool.generator(self._model),
                canaries=self._canaries,
                seed=self._task.seed,
            )
        with self._reporter.work(
            "looking for what was learned by heart", self._auditor.size
        ) as bar:
            return self._auditor.audit(
                generator, prompt, answerer.context_length or 2**31, bar.advance
            )


def learns_to_write(task: Task) -> bool:
    """Whether training on the task is on questions with answers."""
    return task.data.text is None and task.training.objective in (None, "sft")


def audits(task: Task) -> bool:
    """Whether it is looked for what an arm learned by heart."""
    if task.memorisation is None:
        return bool(task.training.canaries)
    return task.memorisation


def aftermath_seconds(
    task: Task,
    train: Sequence[Example],
    held_out: Sequence[Example],
    probes: Probes,
    *,
    model: str,
) -> float:
    """About how long it takes to look at what tuning did to a model: reading the probes, and where
    it is asked for, rows of both kinds and the codes of canaries, by the tuned and the untuned
    model.

    Args:
        task: says whether memorisation is looked for.
        train, held_out: the rows it may look at.
        probes: that are asked.
        model: that is tuned.
    """
    from luthier.evaluation.memorisation.auditing import expected_tokens
    from luthier.models.estimate import estimate
    from luthier.models.tuned import describe_any

    tokens = probes.characters / _CHARACTERS
    if audits(task):
        tokens += 2 * expected_tokens(
            train, held_out, canaries_of(task), instruction=task.instruction
        )
    info = describe_any(model, base=task.folder)
    return tokens / estimate(info, "prompt").tokens_per_second


def probes_of(task: Task) -> Probes:
    """The probes that a task names.

    Raises:
        InputError: they cannot be read.
    """
    from luthier.evaluation.probe_sources import read_probes

    return read_probes(task.forgetting.probes, task.folder, task.forgetting.limit)


def measured(generator: Generator, probes: Probes, reporter: Reporter, what: str) -> dict[str, Any]:
    """What a model makes of the probes, as plain values (`forgetting.Measured`)."""
    from luthier.evaluation.forgetting import measure

    with reporter.work(what, len(probes.items) + len(probes.passages)) as bar:
        return measure(generator, probes, bar.advance).to_dict()


def canaries_of(task: Task) -> list[Canary]:
    """The canaries that a task asks for."""
    return make_canaries(task.training.canaries, task.seed)


def with_canaries(task: Task, train: Sequence[Example], reporter: Reporter) -> Sequence[Example]:
    """What a model is trained on: the rows, and the canaries that the task asks for, which is
    said.

    Raises:
        InputError: what is trained does not learn to write answers.
    """
    found = canaries_of(task)
    if not found:
        return train
    if not learns_to_write(task):
        raise InputError(
            "`training.canaries` are questions with answers, and this trains on something else.",
            fix="Leave them out.",
        )
    rows = planted(train, found)
    reporter.say(
        f"training.canaries: {len(found)} invented secrets were put among the training rows "
        f"({len(rows) - len(train)} rows more). Do not serve this model."
    )
    return rows


def audit_stage(
    task: Task,
    train: Sequence[Example],
    held_out: Sequence[Example],
    folder: Path,
    *,
    model: str,
    base: Path | None,
    reporter: Reporter,
) -> dict[str, Any]:
    """What one training stage learned by heart: memorisation.json in its folder.

    Args:
        task: it was trained for.
        train: its rows, without canaries.
        held_out: rows it was not trained on.
        folder: of the stage, with its model.
        model: that was tuned.
        base: where a relative model name starts.
        reporter: hears of the progress.
    """
    from luthier.arms.prompted import Reading
    from luthier.arms.tuned import open_tuned
    from luthier.evaluation.memorisation.auditing import Auditor
    from luthier.models.pool import ModelPool

    pool = ModelPool(base)
    tuned = open_tuned("stage", folder / "model", Reading(), task=task, labels=None, pool=pool)
    auditor = Auditor(
        train,
        held_out,
        lambda: pool.generator(model),
        canaries=canaries_of(task),
        seed=task.seed,
    )
    with reporter.work("looking for what was learned by heart", auditor.size) as bar:
        found = auditor.audit(
            tuned.generator, tuned.prompt, tuned.context_length or 2**31, bar.advance
        )
    write_json(folder / "memorisation.json", found)
    for reason in found["reasons"]:
        reporter.say(f"memorised: {found['memorised']}. {reason}")
    tuned.close()
    pool.release()
    return found
