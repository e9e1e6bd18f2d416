"""What later objectives rest on: several sequences in an item, a reference, modules of their own.

Two small objectives live here and nowhere else: a pairwise one in the manner of DPO (Rafailov et
al. 2023, eq. 7), and one that adds a head of its own and stores it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch.nn import functional
from training_fakes import config, examples, load

from luthier.data.examples import Example
from luthier.errors import InputError
from luthier.models.heads import body, logits
from luthier.progress import Reporter
from luthier.task_training import Training
from luthier.training.config import TrainingConfig
from luthier.training.loop import fit
from luthier.training.objective import (
    OBJECTIVES,
    Material,
    StageObjective,
    check_method,
    objective_of,
)
from luthier.training.stage import StageResult, train_stage

BETA = 0.5


@dataclass(frozen=True)
class Pair:
    """Two answers to one question; `reference` is what the untouched model gives them."""

    question: list[int]
    chosen: list[int]
    rejected: list[int]
    reference: tuple[float, float] | None = None

    @property
    def length(self) -> int:
        return 2 * len(self.question) + len(self.chosen) + len(self.rejected)

    @property
    def weight(self) -> float:
        return 1


def log_probability(model: Any, question: list[int], answer: list[int]) -> torch.Tensor:
    """log p(answer | question), a scalar."""
    ids = torch.tensor([[*question, *answer]])
    hidden = body(model)(input_ids=ids, use_cache=False).last_hidden_state[0]
    start = len(question) - 1
    found = torch.log_softmax(logits(model, hidden[start : start + len(answer)]), -1)
    return found[torch.arange(len(answer)), torch.tensor(answer)].sum()


class Pairwise(StageObjective):
    """-log sigmoid(beta * ((w - ref_w) - (l - ref_l)))."""

    name: ClassVar[str] = "test-pairwise"
    title: ClassVar[str] = "Pairs"
    margins: ClassVar[list[float]] = []

    def __init__(self) -> None:
        self._margins: list[float] = []

    def material(
        self, examples: Sequence[Example], validation: Sequence[Example], config: TrainingConfig
    ) -> Material:
        assert self.prompt is not None
        items = [
            Pair(
                self.prompt.ask(e.messages),
                self.prompt.answer_ids(e.output),
                self.prompt.answer_ids((e.fields or {})["rejected"]),
            )
            for e in examples
        ]
        return Material(items, list(range(len(items))))

    @torch.no_grad()
    def consult(
        self, model: Any, items: list[Pair], config: TrainingConfig, info: Any
    ) -> list[Pair]:
        model.eval()
        return [
            replace(
                item,
                reference=(
                    float(log_probability(model, item.question, item.chosen)),
                    float(log_probability(model, item.question, item.rejected)),
                ),
            )
            for item in items
        ]

    def loss(self, model: Any, items: Sequence[Pair]) -> torch.Tensor:
        losses = []
        for item in items:
            assert item.reference is not None
            gained = log_probability(model, item.question, item.chosen) - item.reference[0]
            lost = log_probability(model, item.question, item.rejected) - item.reference[1]
            margin = BETA * (gained - lost)
            self._margins.append(float(margin.detach()))
            losses.append(-functional.logsigmoid(margin))
        return torch.stack(losses).sum()

    def taken(self) -> dict[str, float]:
        margins, self._margins = self._margins, []
        return {"margin": sum(margins) / len(margins)} if margins else {}


class WithScore(torch.nn.Module):
    """A causal model and one number for the last token."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.score = torch.nn.Linear(inner.config.hidden_size, 1)

    def get_base_model(self) -> Any:
        return self.inner


class Scored(Pairwise):
    """A reward model: -log sigmoid(r_w - r_l), with a head of its own (Ouyang et al. 2022, 1)."""

    name: ClassVar[str] = "test-scored"
    title: ClassVar[str] = "Rewards"
    writes: ClassVar[bool] = False
    methods: ClassVar[frozenset[str] | None] = frozenset({"lora", "full"})

    def consult(
        self, model: Any, items: list[Pair], config: TrainingConfig, info: Any
    ) -> list[Pair]:
        return items

    def prepare(self, model: Any, tuning: Any, config: TrainingConfig, base: str) -> Any:
        return WithScore(super().prepare(model, tuning, config, base))

    def loss(self, model: Any, items: Sequence[Pair]) -> torch.Tensor:
        margins = []
        for item in items:
            both = []
            for answer in (item.chosen, item.rejected):
                ids = torch.tensor([[*item.question, *answer]])
                hidden = body(model.inner)(input_ids=ids, use_cache=False).last_hidden_state
                both.append(model.score(hidden[0, -1].float())[0])
            margins.append(both[0] - both[1])
        return -functional.logsigmoid(torch.stack(margins)).sum()

    def store(
        self,
        model: Any,
        weights: Mapping[str, torch.Tensor],
        folder: Path,
        tuning: Any,
        **rest: Any,
    ) -> None:
        from safetensors.torch import save_file

        inner = {n.removeprefix("inner."): w for n, w in weights.items() if "inner." in n}
        tuning.store(model.inner, inner, folder, self.tokenizer, **rest)
        save_file(
            {n: w.contiguous() for n, w in weights.items() if n.startswith("score.")},
            folder / "score.safetensors",
        )


@pytest.fixture(autouse=True)
def _known() -> Iterator[None]:
    OBJECTIVES.names()
    for kind in (Pairwise, Scored):
        OBJECTIVES.register(kind.name)(kind)
    yield
    for kind in (Pairwise, Scored):
        del OBJECTIVES._pieces[kind.name]


def pairs(n: int) -> list[Example]:
    return [replace(e, fields={"rejected": "no idea"}) for e in examples(n)]


def stage(model: Path, folder: Path, objective: str, **changes: Any) -> StageResult:
    values: dict[str, Any] = {
        "model_name": str(model),
        "base": None,
        "instruction": "Count.",
        "examples": pairs(8),
        "wishes": Training(
            objective=objective, learning_rate=1e-2, epochs=2, batch_size=4, precision="float32"
        ),
        "method": "lora",
        "seed": 0,
        "folder": folder,
        "reporter": Reporter(),
    }
    return train_stage(**{**values, **changes})


class Told(Reporter):
    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    def event(self, kind: str, **values: Any) -> None:
        if kind == "step":
            self.steps.append(values)


def test_a_pairwise_objective_with_a_reference(tiny_model: Path, tmp_path: Path) -> None:
    told = Told()
    result = stage(tiny_model, tmp_path, "test-pairwise", reporter=told)
    # before the first step the model is its reference: a margin of 0, a loss of log 2 a pair
    assert result.curve[0][1] == pytest.approx(math.log(2), rel=1e-5)
    assert result.final_loss < result.curve[0][1] - 0.05
    assert result.objective == "test-pairwise"
    assert result.config["objective"] == "test-pairwise"
    # what else it measures is in the log of every step, and in the result
    margins = [step["metrics"]["margin"] for step in told.steps]
    assert margins[0] == pytest.approx(0, abs=1e-5)
    assert margins[-1] > 0.1
    assert result.metrics["margin"] == [(i + 1, m) for i, m in enumerate(margins)]
    # a pair counts once, its four parts are read
    made = Pair([1, 2], [3], [4, 5])
    assert (made.length, made.weight) == (7, 1)


def test_its_loss_is_the_one_computed_by_hand(tiny_model: Path) -> None:
    loaded = load(tiny_model)
    objective = Pairwise()
    objective.begin(loaded, "Count.")
    items = objective.material(pairs(3), (), config()).items
    items = objective.consult(loaded.model, items, config(), None)
    with torch.no_grad():
        loaded.model.model.norm.weight.mul_(1.3)  # as if it had been trained
    by_hand = 0.0
    for item in items:
        gains = []
        for answer, before in zip((item.chosen, item.rejected), item.reference, strict=True):
            whole = torch.tensor([[*item.question, *answer]])
            with torch.no_grad():
                out = torch.log_softmax(loaded.model(input_ids=whole).logits[0].double(), -1)
            start = len(item.question)
            now = sum(float(out[start + i - 1, token]) for i, token in enumerate(answer))
            gains.append(now - before)
        by_hand += math.log1p(math.exp(-BETA * (gains[0] - gains[1])))
    assert by_hand != pytest.approx(3 * math.log(2), rel=0.01)
    assert float(objective.loss(loaded.model, items)) == pytest.approx(by_hand, rel=1e-5)
    # and a step of the loop divides by the number of pairs, however they are split
    for micro in (1, 10_000):
        again = load(tiny_model)
        with torch.no_grad():
            again.model.model.norm.weight.mul_(1.3)
        done = fit(again.model, objective, items, config(batch_size=3, micro_tokens=micro))
        assert done.curve[0][1] == pytest.approx(by_hand / 3, rel=1e-5)


@pytest.mark.parametrize("method", ["lora", "full"])
def test_an_objective_with_a_head_of_its_own(tiny_model: Path, tmp_path: Path, method: str) -> None:
    from safetensors.torch import load_file

    result = stage(tiny_model, tmp_path, "test-scored", method=method)
    assert result.final_loss < result.curve[0][1]
    head = load_file(tmp_path / "model" / "score.safetensors")
    assert head["score.weight"].shape == (1, 32)
    assert not (tmp_path / "samples.json").exists()  # it does not write, so it is not asked
    alone = stage(tiny_model, tmp_path / "sft", "sft", method=method)
    assert result.trained_parameters == alone.trained_parameters + 33
    held = json.loads((tmp_path / "model" / "prompt.json").read_text())
    assert held["instruction"] == "Count."


def test_a_method_that_an_objective_cannot_use(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="test-scored` cannot be trained with --method ia3") as e:
        stage(tiny_model, tmp_path, "test-scored", method="ia3")
    assert e.value.fix == "Choose one of: full, lora."
    check_method(Pairwise, "ia3")


def test_what_a_task_may_ask_for() -> None:
    assert objective_of(Training()).name == "sft"
    assert objective_of(Training(), raw_text=True).name == "pretrain"
    with pytest.raises(InputError, match=r"Unknown objective 'pretain'.*'pretrain'"):
        objective_of(Training(objective="pretain"))
    with pytest.raises(InputError, match=r"`training.objective: pretrain` learns from raw text"):
        objective_of(Training(objective="pretrain"))
    with pytest.raises(InputError, match=r"sft` learns from questions and answers, and `data.text"):
        objective_of(Training(objective="sft"), raw_text=True)
    with pytest.raises(InputError, match=r"`training.pooling` is read by objective sequence-cl"):
        objective_of(Training(pooling="mean"))
    with pytest.raises(InputError, match=r"`training.loss_on` is read by objective sft, and not"):
        objective_of(Training(loss_on="all"), raw_text=True)
