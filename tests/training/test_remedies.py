"""What is done against forgetting: replayed rows, a pull to the start, averaging; and mixtures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from run_samples import write_task
from training_fakes import config, examples, items, load

from luthier.data.examples import Example, Message
from luthier.data.mixtures import Mixed, carrying
from luthier.errors import InputError
from luthier.evaluation.forgetting import general_probes
from luthier.models.tuned import load_any, load_tuned
from luthier.progress import Reporter
from luthier.task import Task
from luthier.task_training import Replay, Training
from luthier.training.batches import plan
from luthier.training.config import decide
from luthier.training.loop import fit
from luthier.training.objectives.sft import Sft
from luthier.training.optimizer import MasterAdamW
from luthier.training.remedies import replay, wise_ft
from luthier.training.remedies.l2_sp import Anchor
from luthier.training.several import PerTask, TaskItem, in_order, with_replay
from luthier.training.stage import StageResult, train_stage

WISHES = Training(learning_rate=1e-2, epochs=2, batch_size=4, rank=4, precision="float32")


class Events(Reporter):
    def __init__(self, kill_at: int | None = None) -> None:
        self.events: list[dict[str, Any]] = []
        self.kill_at = kill_at

    def event(self, kind: str, **values: object) -> None:
        self.events.append({"kind": kind, **values})
        if kind == "step" and values["step"] == self.kill_at:
            raise KeyboardInterrupt


def stage(model: Path, folder: Path, **changes: Any) -> StageResult:
    values: dict[str, Any] = {
        "model_name": str(model),
        "base": None,
        "instruction": "Count the words.",
        "examples": examples(12),
        "wishes": WISHES,
        "method": "lora",
        "seed": 0,
        "folder": folder,
        "reporter": Reporter(),
        "samples": False,
    }
    return train_stage(**{**values, **changes})


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    return dict(load_any(str(folder), torch.float32).model.state_dict())


# ---- L2-SP -------------------------------------------------------------------------------------


def test_the_pull_by_hand() -> None:
    start = torch.tensor([1.0, -2.0])
    weights = {"w": start.clone()}
    anchor = Anchor(weights, 5.0)
    weights["w"] += torch.tensor([0.5, 0.1])
    anchor.pull(weights, 0.02)
    # w - lr * beta * (w - w0): 1.5 - 0.1 * 0.5 and -1.9 - 0.1 * 0.1
    torch.testing.assert_close(weights["w"], torch.tensor([1.45, -1.91]))


def test_a_step_is_the_pull_and_then_adam() -> None:
    def one(l2_sp: float) -> tuple[MasterAdamW, torch.nn.Parameter]:
        parameter = torch.nn.Parameter(torch.tensor([[1.0, 2.0]]))
        return MasterAdamW({"w": parameter}, l2_sp=l2_sp), parameter

    (pulled, w), (free, v) = one(3.0), one(0.0)
    start = w.detach().clone()
    for step, gradient in enumerate([[0.3, -0.2], [0.1, 0.4], [-0.5, 0.2]]):
        before = w.detach().clone()
        for optimizer, parameter in ((pulled, w), (free, v)):
            parameter.grad = torch.tensor([gradient])
            optimizer.collect()
            was = parameter.detach().clone()
            optimizer.step(0.1)
            if optimizer is free:
                adam = parameter.detach() - was  # Adam's move depends on gradients alone
        torch.testing.assert_close(w.detach(), before - 0.1 * 3.0 * (before - start) + adam)
        assert step == 0 or not torch.equal(w, v)


def test_a_model_that_is_pulled_stays_closer_to_where_it_began(tiny_model: Path) -> None:
    def distance(l2_sp: float) -> float:
        loaded = load(tiny_model)
        start = {n: p.detach().clone() for n, p in loaded.model.named_parameters()}
        loaded.model.requires_grad_(True)
        fit(loaded.model, Sft(), items(loaded.tokenizer, 24), config(epochs=3, l2_sp=l2_sp))
        return sum(
            float((p.detach() - start[n]).square().sum())
            for n, p in loaded.model.named_parameters()
        )

    free, light, strong = distance(0), distance(50), distance(500)
    assert strong < 0.5 * light < 0.5 * free


def test_a_pull_that_would_overshoot_is_refused() -> None:
    with pytest.raises(InputError, match=r"`training.l2_sp` 200 times the learning rate 0.01"):
        decide(
            Training(l2_sp=200, learning_rate=0.01),
            method="full",
            examples=5,
            hidden_size=32,
            context_length=64,
            bfloat16=False,
            seed=0,
        )


# ---- WiSE-FT -----------------------------------------------------------------------------------


@given(st.floats(0, 1))
def test_the_weights_between_by_hand(alpha: float) -> None:
    start, tuned = {"w": torch.tensor([1.0, 4.0])}, {"w": torch.tensor([3.0, 0.0])}
    found = wise_ft.between(start, tuned, alpha)["w"]
    torch.testing.assert_close(found, torch.tensor([1 + 2 * alpha, 4 - 4 * alpha]))


@pytest.mark.parametrize(
    ("losses", "chosen"),
    [
        # the smallest is shown to be worse, the second is not
        ({0.2: [2.0, 2.1, 2.0], 0.6: [1.0, 1.2, 1.0], 1.0: [1.0, 1.1, 1.05]}, 0.6),
        # all alike
        ({0.2: [1.0, 1.0], 0.6: [1.0, 1.0], 1.0: [1.0, 1.0]}, 0.2),
        # mean 0.1 worse with standard error 0.1: not shown
        ({0.2: [1.2, 1.0], 1.0: [1.0, 1.0]}, 0.2),
        # mean 0.15 worse with standard error 0.05: shown
        ({0.2: [1.2, 1.1], 1.0: [1.0, 1.0]}, 1.0),
        ({0.2: [3.0], 1.0: [1.0]}, 1.0),
    ],
)
def test_the_smallest_share_that_is_not_shown_to_be_worse(
    losses: dict[float, list[float]], chosen: float
) -> None:
    assert wise_ft.choose(losses) == chosen


@pytest.mark.parametrize("method", ["full", "lora"])
def test_what_is_stored_lies_on_the_line_between_base_and_tuned(
    tiny_model: Path, tmp_path: Path, method: str
) -> None:
    stage(tiny_model, tmp_path / "tuned", method=method)
    wishes = WISHES.model_copy(update={"wise_ft": 0.4})
    result = stage(tiny_model, tmp_path / "between", method=method, wishes=wishes)
    assert any("0.4 of the change of the weights is kept" in note for note in result.notes)
    base, tuned = weights_of(tiny_model), weights_of(tmp_path / "tuned")
    found = weights_of(tmp_path / "between")
    moved = 0.0
    for name, value in found.items():
        wanted = 0.6 * base[name] + 0.4 * tuned[name]
        torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5)
        moved = max(moved, float((tuned[name] - base[name]).abs().max()))
    assert moved > 1e-2


def test_the_share_is_chosen_on_validation_rows(tiny_model: Path, tmp_path: Path) -> None:
    wishes = WISHES.model_copy(update={"wise_ft": "auto"})
    heard = Events()
    held = examples(20, seed=7)
    result = stage(tiny_model, tmp_path, wishes=wishes, validation=held, reporter=heard)
    (chosen,) = [event["alpha"] for event in heard.events if event["kind"] == "wise-ft"]
    assert chosen in wise_ft.ALPHAS
    assert any("smallest whose validation loss" in note for note in result.notes)
    assert not result.validation  # nobody asked for a curve
    # the losses are those of the weights that are then stored
    loaded = load_tuned(tmp_path / "model", str(tiny_model))
    shown = next(note for note in result.notes if "smallest" in note)
    said = float(shown.split(f"{chosen:g}: ")[1].split(",")[0].split(")")[0])
    from luthier.prompts.prompt import Prompt

    prompt = Prompt(loaded.tokenizer, instruction="Count the words.")
    sft = Sft()
    taught = [sft.item(prompt.teach(e.messages, e.output, loss_on="completion")) for e in held]
    losses = wise_ft.row_losses(loaded.model, sft, taught)
    assert sum(losses) / len(losses) == pytest.approx(said, abs=2e-3)


def test_averaging_needs_rows_and_a_method_that_it_suits(tiny_model: Path, tmp_path: Path) -> None:
    wishes = WISHES.model_copy(update={"wise_ft": "auto"})
    with pytest.raises(InputError, match="wise_ft: auto need validation rows"):
        stage(tiny_model, tmp_path / "a", wishes=wishes)
    for method in ("dora", "pissa", "ia3"):
        with pytest.raises(InputError, match=r"`training.wise_ft` averages weights"):
            stage(
                tiny_model,
                tmp_path / method,
                method=method,
                wishes=WISHES.model_copy(update={"wise_ft": 0.5}),
            )


# ---- replay ------------------------------------------------------------------------------------


@given(st.floats(0.01, 0.99), st.integers(1, 5000))
def test_the_ratio_is_a_share_of_all_examples(ratio: float, count: int) -> None:
    rows = replay.rows_wanted(ratio, count)
    assert rows >= 1
    if rows > 1:
        # one row more or less would be no closer
        assert abs(rows - count * ratio / (1 - ratio)) <= 0.5


def test_a_tenth_of_the_mix() -> None:
    assert replay.rows_wanted(0.1, 90) == 10
    assert replay.rows_wanted(0.5, 90) == 90


@given(st.integers(1, 30), st.integers(0, 9))
def test_every_row_comes_before_any_comes_again(count: int, seed: int) -> None:
    rows = examples(7)
    chosen = replay.choose(rows, count, seed)
    assert chosen == replay.choose(rows, count, seed)
    assert len(chosen) == count
    assert len({row.id for row in chosen}) == count
    for start in range(0, count, 7):
        part = [row.source for row in chosen[start : start + 7]]
        assert len(set(part)) == len(part)


def test_the_general_prompts_are_no_probes() -> None:
    rows = replay.general_rows()
    assert len(rows) >= 60
    assert len({row.input for row in rows}) == len(rows)
    asked = {probe.query.strip().lower() for probe in general_probes()}
    for row in rows:
        text = f"{row.input} {row.output}".lower()
        assert not any(query in text for query in asked)


def test_general_rows_are_mixed_in_with_their_own_instruction(
    tiny_model: Path, tmp_path: Path
) -> None:
    wishes = WISHES.model_copy(update={"replay": Replay(ratio=0.25)})
    result = stage(tiny_model, tmp_path, wishes=wishes)
    assert result.examples == 16
    assert result.config["replay"] == {"from": "general", "ratio": 0.25}
    assert "4 rows of the general prompts are replayed, 25% of all examples." in result.notes


def test_rows_of_another_task_and_of_a_file(tiny_model: Path, tmp_path: Path) -> None:
    path = write_task(tmp_path / "before", tiny_model, instruction="Name it.")
    rows = replay.source_rows("before", tmp_path)
    assert {row.messages[0] for row in rows} == {Message("system", "Name it.")}
    assert len(rows) == len(replay.source_rows(str(path), Path("/")))
    (tmp_path / "chat.jsonl").write_text('{"instruction": "Hi?", "output": "Hello."}\n')
    assert replay.source_rows("chat.jsonl", tmp_path)[0].output == "Hello."
    with pytest.raises(InputError, match=r"`training.replay.from`: nowhere.jsonl does not exist"):
        replay.source_rows("nowhere.jsonl", tmp_path)


def test_a_path_in_a_task_file_starts_from_its_folder(tiny_model: Path, tmp_path: Path) -> None:
    path = write_task(
        tmp_path / "t", tiny_model, training={"replay": {"from": "../before", "ratio": 0.2}}
    )
    found = Task.load(path).wishes.replay
    assert found == Replay(source=str(tmp_path / "t" / ".." / "before"), ratio=0.2)


@pytest.mark.parametrize("ratio", [0, 1, -0.1, 1.5])
def test_a_ratio_outside_of_0_to_1(ratio: float) -> None:
    values = {
        "name": "a",
        "kind": "qa",
        "data": {"train": "x.csv", "input": "{{ a }}", "output": "{{ b }}"},
    }
    with pytest.raises(InputError, match=r"`training.replay.ratio` must be"):
        Task.from_dict({**values, "training": {"replay": {"ratio": ratio}}})
    with pytest.raises(
        InputError, match=r"unknown key `training.replay.form`. Did you mean 'from'"
    ):
        Task.from_dict({**values, "training": {"replay": {"form": "self"}}})


def test_the_model_replays_what_it_says_itself(tiny_model: Path, tmp_path: Path) -> None:
    wishes = WISHES.model_copy(
        update={"replay": Replay(source="self", ratio=0.4), "checkpoint_every": 2, "epochs": 3}
    )
    whole = stage(tiny_model, tmp_path / "whole", wishes=wishes)
    kept = json.loads((tmp_path / "whole" / "replay.json").read_text())
    assert len(kept["answers"]) == 8
    assert len(set(kept["answers"])) > 1
    with pytest.raises(KeyboardInterrupt):
        stage(tiny_model, tmp_path / "x", wishes=wishes, reporter=Events(kill_at=4))
    answers = (tmp_path / "x" / "replay.json").read_text()
    again = stage(tiny_model, tmp_path / "x", wishes=wishes)
    assert (tmp_path / "x" / "replay.json").read_text() == answers
    assert any(note.startswith("Continued after step") for note in again.notes)
    assert again.curve == whole.curve
    file = "model/adapter_model.safetensors"
    assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_answers_are_sampled_from_the_untuned_model(tiny_model: Path, tmp_path: Path) -> None:
    from luthier.generation.local import Generator
    from luthier.generation.options import Sampling, Stopping
    from luthier.prompts.prompt import Prompt

    loaded = load(tiny_model)
    prompt = Prompt(loaded.tokenizer, instruction="Count the words.")
    generator = Generator(loaded.model, loaded.tokenizer)
    found = replay.replayed(
        Replay(source="self", ratio=0.5),
        examples=5,
        base=None,
        seed=3,
        prompt=prompt,
        generator=lambda: generator,
        memory=tmp_path / "replay.json",
        reporter=Reporter(),
    )
    assert all("answered by the model" in row.source for row in found.examples)
    stopping = Stopping(prompt.stop_ids, prompt.stop_strings, 128)
    chosen = replay.choose(replay.source_rows("self", Path()), 5, 3)
    written = generator.generate(
        [prompt.ask(row.messages) for row in chosen], stopping, Sampling(1.0, seed=4)
    )
    for row in found.examples:
        assert any(row.output and answer.text.startswith(row.output) for answer in written)
    # not asked again
    replay.replayed(
        Replay(source="self", ratio=0.5),
        examples=5,
        base=None,
        seed=3,
        prompt=prompt,
        generator=lambda: pytest.fail("sampled twice"),
        memory=tmp_path / "replay.json",
        reporter=Reporter(),
    )


# ---- several tasks in one stage ----------------------------------------------------------------


def mixed(shares: dict[str, float]) -> Mixed:
    made: list[Example] = []
    tasks: list[str] = []
    for seed, name in enumerate(shares):
        rows = examples(6 + 4 * seed, seed=seed)
        made += [carrying(row, f"Task {name}: count.") for row in rows]
        tasks += [name] * len(rows)
    return Mixed(tuple(made), tuple(tasks), shares)


def test_given_order_is_kept_and_used_once() -> None:
    lengths = [5, 1, 9, 3, 7]
    assert plan(lengths, batch_size=2, epochs=3, seed=1, order="given") == [[0, 1], [2, 3], [4]]


def test_draws_of_a_stage() -> None:
    made = [f"a{i}" for i in range(4)] + [f"b{i}" for i in range(8)]
    drawn, rows, notes = in_order(
        made,  # type: ignore[arg-type]
        ["a"] * 4 + ["b"] * 8,
        {"a": 0.5, "gone": 0.25, "b": 0.25},
        epochs=2,
        seed=0,
    )
    assert [item.item for item in drawn] == [made[row] for row in rows]
    assert [item.place for item in drawn] == list(range(24))
    # "gone" has no rows left; the others share its part
    assert sum(item.task == "a" for item in drawn) == 16
    assert notes == [
        "a: 16 of 24 draws from 4 rows (4.00 each).",
        "b: 8 of 24 draws from 8 rows (1.00 each).",
    ]
    assert sorted(row for row in rows if row >= 4) == list(range(4, 12))


def test_replayed_rows_take_their_ratio_of_a_mixture() -> None:
    found = with_replay({"a": 0.75, "b": 0.25}, Replay(ratio=0.2))
    assert found == pytest.approx({"a": 0.6, "b": 0.2, "replay": 0.2})


def test_the_loss_of_all_tasks_is_that_of_the_objective(tiny_model: Path) -> None:
    loaded = load(tiny_model)
    plain = [
        *items(loaded.tokenizer, 3, instruction="One thing."),
        *items(loaded.tokenizer, 4, instruction="Another, which is longer.", seed=1),
    ]
    listed = [TaskItem(item, "a" if i < 3 else "b", i) for i, item in enumerate(plain)]
    apart, sft = PerTask(Sft()), Sft()
    whole = apart.loss(loaded.model, listed)
    torch.testing.assert_close(whole, sft.loss(loaded.model, plain))
    first = sft.loss(loaded.model, plain[:3])
    losses = apart.taken()
    assert losses["a"] == pytest.approx(
        float(first.detach()) / sum(i.weight for i in plain[:3]), rel=1e-5
    )
    assert apart.taken() == {}
    # a step that is begun again in smaller parts counts once
    for part in (listed, listed[:2], listed[2:5], listed[5:]):
        apart.loss(loaded.model, part)
    assert apart.taken() == pytest.approx(losses, rel=1e-5)
    with torch.no_grad():  # validation
        apart.loss(loaded.model, plain)
        apart.loss(loaded.model, listed)
    assert apart.taken() == {}


def test_a_mixture_is_trained_and_resumed_to_the_same_weights(
    tiny_model: Path, tmp_path: Path
) -> None:
    mixture = mixed({"a": 0.7, "b": 0.3})
    wishes = WISHES.model_copy(update={"checkpoint_every": 2})
    values = {"mixture": mixture, "examples": mixture.examples, "wishes": wishes}
    heard = Events()
    whole = stage(tiny_model, tmp_path / "whole", reporter=heard, **values)
    assert whole.steps == 8  # 2 epochs of 16 rows, 4 a step
    assert whole.examples == 16
    assert "a: 22 of 32 draws from 6 rows (3.67 each)." in whole.notes
    told = [event for event in heard.events if event["kind"] == "step"]
    assert whole.tasks.keys() == {"a", "b"}
    assert dict(whole.tasks["a"]) == {
        event["step"]: event["tasks"]["a"] for event in told if "a" in event["tasks"]
    }
    assert whole.tasks["a"][-1][1] < whole.tasks["a"][0][1]
    with pytest.raises(KeyboardInterrupt):
        stage(tiny_model, tmp_path / "x", reporter=Events(kill_at=5), **values)
    again = stage(tiny_model, tmp_path / "x", **values)
    assert "Continued after step 4 of 8." in again.notes
    assert again.curve == whole.curve
    assert again.tasks == whole.tasks
    file = "model/adapter_model.safetensors"
    assert (tmp_path / "x" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_rows_that_are_dropped_for_their_length_leave_the_others_their_tasks(
    tiny_model: Path, tmp_path: Path
) -> None:
    mixture = mixed({"a": 0.5, "b": 0.5})
    long = Example("long", (Message("user", "word " * 60),), "60 words", source="long.csv row 1")
    rows = (long, *mixture.examples)
    dropped = Mixed(rows, ("a", *mixture.tasks), mixture.shares)
    wishes = WISHES.model_copy(update={"overlong": "drop", "max_tokens": 250})
    result = stage(tiny_model, tmp_path, mixture=dropped, examples=rows, wishes=wishes)
    assert "a: 16 of 32 draws from 6 rows (2.67 each)." in result.notes
    assert "b: 16 of 32 draws from 10 rows (1.60 each)." in result.notes
