"""The training loop: count tokens, normalise, check, step.

One loop for every method and objective. The loss of an optimiser step is the sum over its trained
tokens divided by their number over the whole step, all micro-batches and all processes together, so
accumulation and data parallelism change memory and time and nothing else.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch

from luthier.training import losses, memory, parallel
from luthier.training.accumulate import Accumulator, random_state, set_random_state
from luthier.training.batches import plan
from luthier.training.checkpoints import Checkpoints
from luthier.training.config import TrainingConfig
from luthier.training.fused.model import fusing
from luthier.training.layerwise import LayerRates
from luthier.training.objective import Objective, TrainingItem
from luthier.training.optimizer import MasterAdamW, learning_rate_at
from luthier.training.recompute import recomputing
from luthier.training.results import StepReport, Trained
from luthier.training.training_error import TrainingError
from luthier.training.validation import Stopping
from luthier.training.watch import RISEN_STEPS, DivergenceWatch, Movement

__all__ = ["StepReport", "Trained", "TrainingError", "fit", "trainable"]

#: After so many steps a weight must have changed; the rest need not be waited for.
_MOVED_BY = 10
_LOWER = "Lower training.learning_rate, or set training.precision: float32."


def trainable(model: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The parameters that training changes, by name."""
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def fit(
    model: torch.nn.Module,
    objective: Objective,
    items: Sequence[TrainingItem],
    config: TrainingConfig,
    *,
    checkpoints: Checkpoints | None = None,
    report: Callable[[StepReport], None] | None = None,
    validation: Sequence[TrainingItem] = (),
    evaluated: Callable[[int, float], None] | None = None,
    notice: Callable[[str], None] | None = None,
    names: Sequence[str] | None = None,
) -> Trained:
    """Train `model`'s trainable parameters in place.

    In a group of processes (`parallel.joined`) every one of them calls this with the same
    arguments; the first one reports and writes checkpoints, and all come to the same weights.

    Args:
        model: in the precision it computes in.
        objective: turns items into a summed loss.
        items: what to learn from.
        config: everything else.
        checkpoints: where to store and find interrupted work; None for none.
        report: called after every optimiser step.
        validation: items whose loss is measured every `config.evaluate_every` steps, and by which
            training stops where `config.patience` is given; none for neither.
        evaluated: called with the step and the validation loss.
        notice: called with a sentence when something had to be done differently.
        names: what to call each item in errors, such as its file and row.

    Raises:
        TrainingError: no item carries loss, or a batch has none that does; loss, gradients or
            weights are not finite; the loss has risen and stays up (`watch.py`); no weight changes;
            not even one example at a time fits into memory. The last good checkpoint is kept.
        ModelError: the model cannot recompute activations, and `gradient_checkpointing` is set.
    """
    main = parallel.current().main
    stage = _Stage(
        model, objective, items, config, names, notice if notice and main else lambda text: None
    )
    if validation and not any(item.weight for item in validation):
        raise TrainingError(
            "None of the validation examples has a trained token.", fix="Check `data.output`."
        )
    again = config.gradient_checkpointing
    with (
        # the fused layers do not know of weights that are opened on the way
        fusing(model, config.fused and config.unfreeze == "all", recompute=again) as fast,
        recomputing(model, again and not fast),
    ):
        try:
            if main:
                return stage.run(checkpoints, report, list(validation), evaluated)
            return stage.run(None, None, list(validation), None)
        finally:
            losses.forget()


class _Stage:
    """One call of `fit`: what it holds between steps."""

    def __init__(
        self,
        model: torch.nn.Module,
        objective: Objective,
        items: Sequence[TrainingItem],
        config: TrainingConfig,
        names: Sequence[str] | None,
        notice: Callable[[str], None],
    ) -> None:
        self.model, self.objective, self.items, self.config = model, objective, items, config
        self.names = names
        self.ranks = parallel.current()
        self.lengths = [item.length for item in items]
        self.weights = [item.weight for item in items]
        self.sizes = objective.sizes(items)
        if not any(self.weights):
            raise TrainingError(
                "None of the examples has a trained token: the loss mask is empty everywhere.",
                fix="Check `data.output` and `training.loss_on`.",
            )
        self.steps = plan(
            self.lengths,
            batch_size=config.batch_size,
            epochs=config.epochs,
            seed=config.seed,
            order=config.order,
        )
        for step, rows in enumerate(self.steps):
            if not any(self.weights[row] for row in rows):
                raise TrainingError(
                    f"A batch has no trained token ({self._rows(rows)}): step {step + 1} of "
                    f"{len(self.steps)}.",
                    fix="Remove these examples, or give them an answer.",
                )
        try:
            self.optimizer = MasterAdamW(
                trainable(model), weight_decay=config.weight_decay, l2_sp=config.l2_sp
            )
        except (MemoryError, RuntimeError) as error:
            self._explain(error)
            raise
        self.sums = Accumulator(
            self.ranks, config.micro_tokens, discard=self.optimizer.discard, notice=notice
        )
        layered = config.layer_decay != 1 or config.unfreeze != "all"
        self.layers = LayerRates(model, config, len(self.steps), len(items)) if layered else None
        self.watch = DivergenceWatch()
        self.stopping = Stopping(config, len(self.steps))
        #: steps that are done, and the one under way, from 1
        self.done, self.step = 0, 1
        self.rate = 0.0
        self.tokens, self.spent = 0, 0.0
        self.curve: list[tuple[int, float]] = []
        self.notes: list[str] = []

    def run(
        self,
        checkpoints: Checkpoints | None,
        report: Callable[[StepReport], None] | None,
        validation: list[TrainingItem],
        evaluated: Callable[[int, float], None] | None,
    ) -> Trained:
        """All steps that are left."""
        config, optimizer, steps = self.config, self.optimizer, self.steps
        movement = Movement(optimizer.masters)
        # each process drops out other units; the first one those of a process alone
        torch.manual_seed(config.seed + 1_000_003 * self.ranks.rank)
        self._continue(checkpoints)
        self.model.train()
        started = time.perf_counter() - self.spent
        unsaved = False
        for step in range(self.done, len(steps)):
            began, self.step = time.perf_counter(), step + 1
            if self.layers:
                optimizer.scale(self.layers.at(step))
            # what carries no loss need not be read
            rows = [row for row in steps[step] if self.weights[row]]
            valid = sum(self.weights[row] for row in rows)
            self.rate = learning_rate_at(
                step, len(steps), peak=config.learning_rate, warmup=config.warmup
            )
            mean = self._gradients(rows, valid) / valid
            norm = optimizer.clip(config.max_grad_norm)
            if not (math.isfinite(mean) and math.isfinite(norm)):
                kind = "loss" if not math.isfinite(mean) else "gradient"
                raise TrainingError(f"The {kind} is not finite {self._where(rows)}.", fix=_LOWER)
            self._update()
            tokens = sum(self.lengths[row] for row in rows)
            self.done, self.tokens = self.step, self.tokens + tokens
            self.curve.append((self.done, mean))
            now = time.perf_counter()
            speed = tokens / max(now - began, 1e-9)
            if report:
                done = (
                    self.done,
                    len(steps),
                    mean,
                    self.rate,
                    norm,
                    self.tokens,
                    now - started,
                    speed,
                )
                report(StepReport(*done))
            if self.watch.add(mean):
                raise TrainingError(
                    f"The loss has risen and stays up {self._where(rows)}: each of the last "
                    f"{RISEN_STEPS} steps is above {self.watch.limit:.3g}, and the median before "
                    f"them was {self.watch.level:.3g}.",
                    fix=f"{_LOWER} Checkpoints from before the rise are kept.",
                )
            if self.done == _MOVED_BY and not movement.any(optimizer.masters):
                raise self._unmoved("")
            if validation and self.stopping.due(self.done):
                loss = self._evaluate(validation)
                stop = self.stopping.take(self.done, loss, optimizer.masters)
                if evaluated:
                    evaluated(self.done, loss)
                if stop:
                    break
            every = config.checkpoint_every
            unsaved = unsaved or bool(every and self.done % every == 0)
            # a loss that stands high may be the start of a divergence: what is stored must be good
            if unsaved and self.done < len(steps) and not self.watch.suspicious:
                self._save(checkpoints, time.perf_counter() - started)
                unsaved = False
        self.model.eval()
        if self.layers:
            self.layers.release()
        self._finish(movement)
        return Trained(
            steps=self.done,
            tokens=self.tokens,
            seconds=time.perf_counter() - started,
            final_loss=self.curve[-1][1],
            curve=self.curve,
            weights={name: master.detach() for name, master in optimizer.masters.items()},
            notes=self.notes + self.sums.notes,
            validation=self.stopping.curve,
            best_step=self.stopping.best[0] if config.patience and self.stopping.best else None,
        )

    # ---- one step ------------------------------------------------------------------------------

    def _gradients(self, rows: list[int], valid: float) -> float:
        """The summed loss of a step over all processes; its gradients are left in the masters."""

        def micro_batch(part: list[int]) -> float:
            loss = self.objective.loss(self.model, [self.items[row] for row in part])
            (loss / valid).backward()
            self.optimizer.collect()
            return float(loss.detach())

        total = self.sums.summed(rows, self.sizes, micro_batch, where=self._where())
        if self.ranks.size > 1:
            self.optimizer.widen()
            self.ranks.sum_gradients(self.optimizer.masters)
        return total

    def _evaluate(self, items: list[TrainingItem]) -> float:
        """The validation loss: summed over all trained tokens, divided by their number."""
        weights, sizes = [item.weight for item in items], self.objective.sizes(items)

        def micro_batch(part: list[int]) -> float:
            with torch.no_grad():
                return float(self.objective.loss(self.model, [items[row] for row in part]))

        self.model.eval()
        rows = [row for row, weight in enumerate(weights) if weight]
        total = self.sums.summed(rows, sizes, micro_batch, where=f"evaluating {self._where()}")
        self.model.train()
        return total / sum(weights)

    def _update(self) -> None:
        try:
            self.optimizer.step(self.rate)
        except (MemoryError, RuntimeError) as error:
            self._explain(error)
            raise

    # ---- what is remembered --------------------------------------------------------------------

    def _save(self, checkpoints: Checkpoints | None, seconds: float) -> None:
        self._must_be_finite()
        random = self.ranks.gather(random_state())
        if not checkpoints:
            return
        tensors = {**self.optimizer.state(), **self.stopping.tensors()}
        for rank, held in enumerate(random):
            tensors |= {name if rank == 0 else f"{name}.{rank}": t for name, t in held.items()}
        state = {
            "tokens": self.tokens,
            "seconds": seconds,
            "curve": self.curve,
            "micro_tokens": self.sums.micro_tokens,
            "processes": self.ranks.size,
            **self.stopping.state(),
        }
        checkpoints.save(self.done, tensors, state)

    def _continue(self, checkpoints: Checkpoints | None) -> None:
        """Take up the newest checkpoint, which the main process reads for all."""
        found, notes = checkpoints.newest() if checkpoints else (None, [])
        state, self.notes = self.ranks.from_main((found.state if found else None, notes))
        tensors = self.ranks.tensors_from_main(found.tensors if found else None)
        if state is None:
            if self.ranks.size > 1:  # all have drawn the same initial values; now that is certain
                start = self.ranks.tensors_from_main(self.optimizer.masters)
                self.optimizer.load({f"master.{name}": value for name, value in start.items()})
            return
        self.optimizer.load(tensors)
        if state["processes"] == self.ranks.size:
            set_random_state(tensors, "" if self.ranks.main else f".{self.ranks.rank}")
        else:
            torch.manual_seed(self.config.seed + 1_000_003 * self.ranks.rank + state["step"])
            self.notes.append(
                f"The checkpoint was written by {state['processes']} processes and is continued by "
                f"{self.ranks.size}: random numbers (dropout) begin anew."
            )
        self.stopping.load(tensors, state)
        self.done, self.tokens, self.spent = state["step"], state["tokens"], state["seconds"]
        self.sums.micro_tokens = state["micro_tokens"]
        self.curve = [(int(step), float(loss)) for step, loss in state["curve"]]
        self.watch = DivergenceWatch(loss for _, loss in self.curve)
        self.notes.append(f"Continued after step {self.done} of {len(self.steps)}.")

    def _finish(self, movement: Movement) -> None:
        """What must hold of the weights at the end, and the best of them put back."""
        self._must_be_finite()
        # a whole model is stored as it computes: what bfloat16 rounds away has not been learnt
        if not movement.enough(self.optimizer.parameters):
            raise self._unmoved(" by as much as a millionth")
        best = self.stopping.best
        ends = [sum(loss for _, loss in part) / 5 for part in (self.curve[:5], self.curve[-5:])]
        if self.done >= _MOVED_BY and ends[1] > ends[0]:
            self.notes.append(
                f"The loss did not fall: {ends[0]:.3g} in the first five steps, {ends[1]:.3g} in "
                f"the last five. {_LOWER}"
            )
        if self.done < len(self.steps):
            self.notes.append(
                f"Stopped after step {self.done} of {len(self.steps)}: {self.config.patience} "
                "looks at the validation rows in a row brought no better loss."
            )
        if best and self.stopping.restore(self.optimizer.masters):
            self.optimizer.copy_down()
            self.notes.append(
                f"The weights of step {best[0]} are kept: its validation loss, {best[1]:.4g}, is "
                "the lowest."
            )

    # ---- what is said --------------------------------------------------------------------------

    def _must_be_finite(self) -> None:
        # the loss of a step is computed before its update, so the last update has not been seen
        if not all(bool(m.isfinite().all()) for m in self.optimizer.masters.values()):
            raise TrainingError(
                f"Weights are not finite after step {self.done} of {len(self.steps)} (learning "
                f"rate {self.rate:g}, {self._rows(self.steps[self.done - 1])}).",
                fix=_LOWER,
            )

    def _unmoved(self, by: str) -> TrainingError:
        return TrainingError(
            f"Training changed no weight in {self.done} of {len(self.steps)} steps{by} (learning "
            f"rate {self.config.learning_rate:g} at its highest, last "
            f"{self._rows(self.steps[self.done - 1])}).",
            fix="Raise training.learning_rate, or set training.precision: float32.",
        )

    def _where(self, rows: Sequence[int] = ()) -> str:
        said = f"at step {self.step} of {len(self.steps)}"
        if not rows:
            return said
        return f"{said} (learning rate {self.rate:g}, {self._rows(rows)})"

    def _rows(self, rows: Sequence[int]) -> str:
        named = [self.names[row] if self.names else str(row + 1) for row in rows]
        return f"training examples {', '.join(named[:8])}" + (" ..." if len(named) > 8 else "")

    def _explain(self, error: BaseException) -> None:
        if memory.ran_out(error):
            count = sum(p.numel() for p in trainable(self.model).values())
            raise TrainingError(
                f"There is no memory for the optimiser's state of {count:,} trained parameters "
                "(12 bytes each).",
                fix="Use --method lora, or a smaller model.",
            ) from error
