"""Sixteen bugs that bit other fine-tuning engines, one test or more for each.

Each test names the reports it comes from. Where a further test elsewhere looks at the same thing
from another side, it is named too.
"""

from __future__ import annotations

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.nn import functional
from training_fakes import config, examples, items, load, uneven, uneven_items

from luthier.data.examples import Example, Message
from luthier.errors import InputError, ModelError
from luthier.models.tuned import load_any
from luthier.progress import Reporter
from luthier.prompts.prompt import Prompt
from luthier.task import Task
from luthier.task_training import Training
from luthier.training.batches import plan
from luthier.training.checkpoints import Checkpoints
from luthier.training.config import TrainingConfig
from luthier.training.loop import StepReport, TrainingError, fit
from luthier.training.method import METHODS
from luthier.training.objectives.sft import IGNORED, Item, Sft
from luthier.training.rows import teach_all
from luthier.training.stage import train_stage


def loss_of(model: Any, rows: list[Item]) -> float:
    with torch.no_grad():
        return float(Sft().loss(model, rows))


def reference(model: Any, rows: list[Item]) -> float:
    """Summed loss in float64 by transformers' own forward pass, one row at a time."""
    total = 0.0
    model.eval()
    with torch.no_grad():
        for row in rows:
            logits = model(input_ids=torch.tensor([row.ids])).logits[0].double()
            goal = torch.tensor(row.targets)
            total += float(
                functional.cross_entropy(logits, goal, ignore_index=IGNORED, reduction="sum")
            )
    return total


def stage(model: str | Path, folder: Path, method: str = "lora", **wishes: Any) -> Any:
    given_wishes = {"learning_rate": 1e-2, "epochs": 1, "batch_size": 4, "precision": "float32"}
    return train_stage(
        model_name=str(model),
        base=None,
        instruction="Count the words.",
        examples=uneven(12),
        wishes=Training(**{**given_wishes, **wishes}),
        method=method,
        seed=0,
        folder=folder,
        reporter=Reporter(),
    )


@pytest.mark.parametrize("micro", [1, 120, 10**6])
def test_01_accumulation_is_no_mean_of_means(tiny_model: Path, micro: int) -> None:
    """torchtune#1875, axolotl#1980, trl#2647/#3716, unsloth#1134: loss and gradient of a step are
    sums over all its tokens, divided once.

    Also: test_training_invariants.py (weights), test_training_distributed.py (over processes),
    test_training_stopping.py (validation loss)."""
    loaded = load(tiny_model)
    rows = uneven_items(loaded.tokenizer, 8)
    tokens = sum(row.weight for row in rows)
    wanted = reference(loaded.model, rows) / tokens
    loaded.model.zero_grad()
    sum(
        functional.cross_entropy(
            loaded.model(input_ids=torch.tensor([row.ids])).logits[0],
            torch.tensor(row.targets),
            reduction="sum",
        )
        for row in rows
    ).div(tokens).backward()
    norm = math.sqrt(sum(float(p.grad.square().sum()) for p in loaded.model.parameters()))
    loaded.model.zero_grad(set_to_none=True)
    means = sum(reference(loaded.model, [row]) / row.weight for row in rows) / len(rows)
    seen: list[StepReport] = []
    settings = config(batch_size=8, micro_tokens=micro)
    fit(loaded.model, Sft(), rows, settings, report=seen.append)
    assert seen[0].loss == pytest.approx(wanted, rel=1e-5)
    assert seen[0].grad_norm == pytest.approx(norm, rel=1e-4)
    assert abs(means - wanted) > 1e-3, "these rows would not show the difference"


def test_02_the_stop_token_is_trained_although_it_is_the_padding(tiny_model: Path) -> None:
    """trl#976/#1623/#3200: masks follow length, never a token id; so generation stops.

    Also: test_prompts_prompt.py, TestTeaching."""
    loaded = load(tiny_model)
    stop = loaded.tokenizer.eos_token_id
    assert loaded.tokenizer.pad_token_id == stop
    rows = items(loaded.tokenizer, 16)
    assert all(row.targets[-1] == stop for row in rows)
    # rows of different length are padded in one batch, and every stop token counts in it
    assert len({row.length for row in rows}) > 3
    assert loss_of(loaded.model, rows) == pytest.approx(reference(loaded.model, rows), rel=1e-5)
    without = [Item(row.ids, [*row.targets[:-1], IGNORED]) for row in rows]
    less = loss_of(loaded.model, rows) - loss_of(loaded.model, without)
    assert less > len(rows), "about five nats each, untrained"
    fit(loaded.model, Sft(), rows, config(epochs=25, learning_rate=1e-2, batch_size=8))
    for row in rows:
        logits = loaded.model(input_ids=torch.tensor([row.ids])).logits[0, -1]
        assert int(logits.argmax()) == stop


def test_03_the_token_that_ends_a_turn_is_in_the_loss(tiny_model: Path) -> None:
    """axolotl#3756: of the last answer and of every earlier assistant turn."""
    loaded = load(tiny_model)
    prompt = Prompt(loaded.tokenizer, instruction="Answer.")
    turns = (Message("user", "a"), Message("assistant", "bb"), Message("user", "c"))
    taught = prompt.teach(turns, "dd", loss_on="assistant")
    stop = prompt.closing_ids[-1]
    assert stop in prompt.stop_ids
    text = loaded.tokenizer.decode(
        [i for i, t in zip(taught.ids, taught.trained, strict=True) if t]
    )
    assert text == "bb<|im_end|>dd<|im_end|>"
    trained = [place for place, t in enumerate(taught.trained) if t]
    ends = [place for place in trained if taught.ids[place] == stop]
    assert len(ends) == 2
    targets = Sft().item(taught).targets
    assert [targets[place - 1] for place in ends] == [stop, stop]


def test_04_no_special_token_is_doubled(tiny_model: Path, tiny_base_model: Path) -> None:
    """trl#4908/#1509, axolotl#1054: although the tokenizer adds its own at both ends.

    Also: test_prompts_prompt.py, TestBeginningOfSequence."""
    from tokenizers.processors import TemplateProcessing

    for folder in (tiny_model, tiny_base_model):
        tokenizer = copy.deepcopy(load(folder).tokenizer)
        start, end = tokenizer.bos_token, tokenizer.eos_token
        tokenizer._tokenizer.post_processor = TemplateProcessing(
            single=f"{start} $A {end}",
            special_tokens=[(start, tokenizer.bos_token_id), (end, tokenizer.eos_token_id)],
        )
        assert tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id
        prompt = Prompt(tokenizer, instruction="Answer.")
        taught = prompt.teach((Message("user", "a"),), "b", loss_on="completion")
        text = tokenizer.decode(taught.ids)
        if prompt.is_chat:  # system, user, assistant
            assert text.count(start) == text.count(end) == 3
        else:
            assert text.startswith(start)
            assert text.count(start) == text.count(end) == 1
        assert text.endswith(end)
        for one in (start, end):
            assert one + one not in text


@pytest.fixture(scope="module")
def merging() -> Any:
    """A tokenizer that merges across white space and line ends, as real ones do."""
    from tiny_models import CHAT_TEMPLATE, make_tokenizer
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    space, line = "Ġ", "Ċ"
    merges = [(line, line), (line, space), (space, "a"), ("a", "a"), (line, "a"), ("t", line)]
    words = [*alphabet, *("".join(pair) for pair in merges)]
    inner = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, merges))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    usual = make_tokenizer()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        bos_token=usual.bos_token,
        eos_token=usual.eos_token,
        pad_token=usual.eos_token,
        unk_token="<unk>",
    )
    made.chat_template = CHAT_TEMPLATE
    return made


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text("a \nt.", max_size=12), st.text("a \nt.", min_size=1, max_size=12))
def test_05_what_is_asked_is_a_prefix_of_what_is_taught(
    merging: Any, question: str, answer: str
) -> None:
    """trl#4201: tokens and mask are built together, piece by piece.

    Also: test_prompts_prompt.py, TestTeaching."""
    prompt = Prompt(merging, instruction="t\n")
    asked = prompt.ask((Message("user", question),))
    taught = prompt.teach((Message("user", question),), answer, loss_on="completion")
    assert taught.ids[: len(asked)] == asked
    assert taught.trained == [False] * len(asked) + [True] * (len(taught.ids) - len(asked))
    assert merging.decode(taught.ids[len(asked) :]) == f"{answer.strip()}<|im_end|>"


def test_05_joined_text_would_not_have_been(merging: Any) -> None:
    """The tokenizer above is one on which the usual way fails."""
    head, tail = "assistant\n", "\naa"
    whole = merging(head + tail)["input_ids"]
    assert whole[: len(merging(head)["input_ids"])] != merging(head)["input_ids"]


def test_06_rows_of_a_batch_do_not_see_each_other(tiny_model: Path) -> None:
    """trl#805/#3067, axolotl#3796, LLaMA-Factory#7754, torchtune#2613: nothing is packed; what else
    is in the batch reaches neither a row's positions, nor its attention, nor its labels."""
    loaded = load(tiny_model)
    rows = uneven_items(loaded.tokenizer, 6)
    alone = loss_of(loaded.model, [rows[0]])
    for others in (rows[1:2], rows[1:6], rows[5:0:-1]):
        together = loss_of(loaded.model, [rows[0], *others]) - loss_of(loaded.model, others)
        assert together == pytest.approx(alone, rel=1e-4)
    # labels are stored shifted: the last real token of a row predicts nothing of the next one
    taught = Prompt(loaded.tokenizer).teach((Message("user", "x"),), "yz", loss_on="all")
    item = Sft().item(taught)
    assert item.ids == taught.ids[:-1]
    assert item.targets == taught.ids[1:]


def test_07_the_validation_loss_is_that_of_the_rows_alone(tiny_model: Path) -> None:
    """axolotl#437/#3478. Also: test_training_stopping.py."""
    loaded = load(tiny_model)
    rows, held_out = uneven_items(loaded.tokenizer, 4), uneven_items(loaded.tokenizer, 9, seed=5)
    done = fit(
        loaded.model, Sft(), rows, config(evaluate_every=1, micro_tokens=300), validation=held_out
    )
    wanted = reference(loaded.model, held_out) / sum(row.weight for row in held_out)
    assert done.validation[-1][1] == pytest.approx(wanted, rel=1e-5)


def test_08_rows_without_a_label_are_named(tiny_model: Path) -> None:
    """unsloth#2734: neither NaN nor a silent zero. Also: test_training_detection.py."""
    loaded = load(tiny_model)
    rows = uneven_items(loaded.tokenizer, 6)
    rows[2] = Item(rows[2].ids, [IGNORED] * rows[2].length)
    names = [f"train.csv row {place + 2}" for place in range(6)]
    with pytest.raises(TrainingError, match=r"no trained token .*train\.csv row 4"):
        fit(loaded.model, Sft(), rows, config(batch_size=1), names=names)
    assert loss_of(loaded.model, [rows[2]]) == 0
    blank = [Item(row.ids, [IGNORED] * row.length) for row in rows]
    with pytest.raises(TrainingError, match="loss mask is empty everywhere"):
        fit(loaded.model, Sft(), blank, config())


class Test09Truncation:
    """trl#5305, trl#6433, trl#3398, trl#2881. On what exists: rows are cut one by one, before any
    padding, at the start of the question; no token of an answer is lost, and no row is left without
    one. What every objective over pairs must bring: the same for `chosen` and `rejected`, which
    keep the same question; and, for one that samples (GRPO), a sum over tokens divided once by
    their number, which the loop does (01)."""

    @settings(max_examples=30, deadline=None)
    @given(
        st.lists(st.integers(1, 90), min_size=1, max_size=6), st.integers(70, 130), st.booleans()
    )
    def test_09_cutting_keeps_every_token_of_the_answer(
        self, merging: Any, questions: list[int], most: int, long_answer: bool
    ) -> None:
        answer = "ta" * (12 if long_answer else 1)
        prompt = Prompt(merging, instruction="t")
        rows = [
            Example(str(n), (Message("user", "t." * n),), answer, source=f"row {n}")
            for n in questions
        ]
        settings = TrainingConfig(learning_rate=1, epochs=1, max_tokens=most, overlong="cut")
        taught, notes = teach_all(prompt, rows, settings)
        whole, _ = teach_all(prompt, rows, settings.model_copy(update={"max_tokens": 10**6}))
        assert len(taught) == len(rows)
        for short, long in zip(taught, whole, strict=True):
            assert len(short.ids) <= most
            own = [i for i, t in zip(short.ids, short.trained, strict=True) if t]
            assert own == prompt.answer_ids(answer)
            if len(long.ids) <= most:  # a long neighbour does not shorten it
                assert short == long
        assert bool(notes) == any(len(one.ids) > most for one in whole)


def test_10_chunks_and_ignored_positions_change_no_loss(tiny_model: Path) -> None:
    """Liger#974 (ignored labels), Liger#862 (NaN). Values and gradients for all chunk sizes against
    float64: test_training_invariants.py; heads with a bias or a cap: test_training_losses.py."""
    from luthier.training.losses import next_token_loss

    model = load(tiny_model).model
    source = torch.Generator().manual_seed(1)
    hidden = 50 * torch.randn(40, 32, generator=source)
    targets = torch.randint(259, (40,), generator=source)
    logits = (hidden.double() @ model.lm_head.weight.detach().double().T).requires_grad_(True)
    wanted = functional.cross_entropy(logits, targets, reduction="sum")
    for chunk in (1, 7, 40, 512):
        mine = hidden.clone().requires_grad_(True)
        loss = next_token_loss(model, mine, targets, chunk)
        loss.backward()
        assert float(loss.detach()) == pytest.approx(float(wanted.detach()), rel=1e-5)
        assert bool(mine.grad.isfinite().all())
    # a batch in which most positions are ignored, some rows wholly
    rows = [Item([5, 6, 7, 8], t) for t in ([-100, -100, -100, 9], [-100] * 4, [1, -100, 2, -100])]
    assert loss_of(model, rows) == pytest.approx(reference(model, [rows[0], rows[2]]), rel=1e-5)
    assert loss_of(model, [rows[1]]) == 0


def test_11_going_on_repeats_and_skips_no_row(tiny_model: Path, tmp_path: Path) -> None:
    """accelerate#2016, verl#7401, ms-swift#8383: after an interruption in the second epoch, exactly
    the steps that are left, with the rows they would have had. Also: test_training_resume.py."""

    class Watched(Sft):
        def __init__(self) -> None:
            self.read: list[list[Item]] = []

        def loss(self, model: Any, items: Any) -> torch.Tensor:
            self.read.append(list(items))
            return super().loss(model, items)

    settings = config(epochs=3, checkpoint_every=1, micro_tokens=10**6)

    def train(stop: int | None) -> tuple[list[list[Item]], list[int]]:
        loaded = load(tiny_model)
        rows = uneven_items(loaded.tokenizer, 10)
        watched, steps = Watched(), []

        def heard(step: StepReport) -> None:
            steps.append(step.step)
            if step.step == stop:
                raise KeyboardInterrupt

        try:
            fit(
                loaded.model,
                watched,
                rows,
                settings,
                checkpoints=Checkpoints(tmp_path, "a"),
                report=heard,
            )
        except KeyboardInterrupt:
            assert stop
        return watched.read, steps

    first, _ = train(5)
    second, steps = train(None)
    assert steps == [5, 6, 7, 8, 9]
    rows = uneven_items(load(tiny_model).tokenizer, 10)
    order = plan([row.length for row in rows], batch_size=4, epochs=3, seed=0)
    found = [sorted(rows.index(item) for item in read) for read in first[:4] + second]
    assert found == [sorted(batch) for batch in order]
    seen = [row for batch in found for row in batch]
    assert all(seen.count(row) == 3 for row in range(10))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", [name for name in ("dora", "qlora") if name in METHODS])
def test_12_dora_and_quantised_bases_store_what_was_trained(
    tiny_model: Path, tmp_path: Path, method: str, precision: str
) -> None:
    """torchtune#1909 (NaN), peft#2321/#1043 (an adapter merged into a 4-bit base is rounded away).
    Also: test_methods_all.py, test_methods_qlora.py."""
    from safetensors.torch import load_file

    stage(tiny_model, tmp_path / "s", method, precision=precision)
    held = load_file(tmp_path / "s" / "model" / "adapter_model.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in held.values())
    ids = torch.tensor([[10, 20, 30, 40]])
    with torch.no_grad():
        tuned = load_any(str(tmp_path / "s"), torch.float32).model(input_ids=ids).logits
        base = load_any(str(tiny_model), torch.float32).model(input_ids=ids).logits
    assert bool(tuned.isfinite().all())
    assert float((tuned - base).abs().max()) > 0.05


class Test13Truncation:
    """LLaMA-Factory#3995, unsloth#2669. Also: test_training_stage.py, TestOverlong."""

    def test_13_nothing_is_cut_that_the_model_can_read(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        long = Example("x", (Message("user", "word " * 80),), "yes", source="x.csv row 2")
        rows = [*examples(3), long]
        result = train_stage(
            model_name=str(tiny_model),
            base=None,
            instruction="",
            examples=rows,
            wishes=Training(epochs=1, batch_size=4, precision="float32"),
            method="lora",
            seed=0,
            folder=tmp_path,
            reporter=Reporter(),
        )
        prompt = Prompt(load(tiny_model).tokenizer)
        whole = [prompt.teach(e.messages, e.output, loss_on="completion") for e in rows]
        assert max(len(one.ids) for one in whole) > 400
        assert result.tokens == sum(len(one.ids) - 1 for one in whole)

    def test_13_what_it_cannot_read_is_an_error_that_names_the_row(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        long = Example("x", (Message("user", "word " * 120),), "yes", source="x.csv row 2")
        with pytest.raises(InputError, match=r"longer than 512 tokens: x\.csv row 2 \(\d+ tokens"):
            train_stage(
                model_name=str(tiny_model),
                base=None,
                instruction="",
                examples=[*examples(3), long],
                wishes=Training(epochs=1),
                method="lora",
                seed=0,
                folder=tmp_path,
                reporter=Reporter(),
            )


@pytest.mark.parametrize(
    ("section", "key", "near"),
    [
        ("training", "learning_rte", "learning_rate"),
        ("training", "gradient_checkpoint", "gradient_checkpointing"),
        ("training", "pacience", "patience"),
        ("data", "trian", "train"),
        (None, "trainin", "training"),
    ],
)
def test_14_an_unknown_key_is_an_error_that_suggests_the_nearest(
    section: str | None, key: str, near: str
) -> None:
    """Axolotl ignores them."""
    values: dict[str, Any] = {
        "name": "a",
        "kind": "chat",
        "data": {"train": "x.csv", "messages": "m"},
        "training": {},
    }
    (values[section] if section else values)[key] = 1
    with pytest.raises(InputError, match=key) as error:
        Task.from_dict(values)
    assert near in str(error.value)
    with pytest.raises(ValueError, match="extra_forbidden"):
        TrainingConfig(learning_rate=1, epochs=1, max_tokens=8, learning_rte=1)  # type: ignore[call-arg]


class Test15NoEffect:
    """LLaMA-Factory#690, #8242."""

    def test_15_training_without_effect_is_an_error(self, tiny_model: Path, tmp_path: Path) -> None:
        with pytest.raises(TrainingError, match=r"changed no weight in 3 of 3 steps .*rate"):
            stage(tiny_model, tmp_path, "full", learning_rate=1e-30)

    def test_15_what_bfloat16_rounds_away_has_no_effect(
        self, tiny_model: Path, tmp_path: Path
    ) -> None:
        """The float32 masters move, by six millionths; the model that is stored does not."""
        with pytest.raises(TrainingError, match="changed no weight") as error:
            stage(tiny_model, tmp_path / "b", "full", learning_rate=5e-7, precision="bfloat16")
        assert "precision: float32" in error.value.fix
        stage(tiny_model, tmp_path / "f", "full", learning_rate=5e-7)

    @pytest.mark.parametrize("method", ["lora", "full"])
    def test_15_what_is_stored_answers_differently(
        self, tiny_model: Path, tmp_path: Path, method: str
    ) -> None:
        stage(tiny_model, tmp_path / "s", method)
        ids = torch.tensor([[10, 20, 30, 40]])
        with torch.no_grad():
            tuned = load_any(str(tmp_path / "s"), torch.float32).model(input_ids=ids).logits
            base = load_any(str(tiny_model), torch.float32).model(input_ids=ids).logits
        assert float((tuned - base).abs().max()) > 0.05


def test_16_the_prompt_of_training_is_the_prompt_of_answering(
    tiny_model: Path, tmp_path: Path
) -> None:
    """LLaMA-Factory#2509 (26 % against 57 % accuracy from the template alone), unsloth#1832,
    vllm#5298: the prompt is stored with what was trained, and another one is refused."""
    from luthier.models.heads import stop_ids
    from luthier.training.stage import stored_prompt

    stage(tiny_model, tmp_path)
    loaded = load_any(str(tmp_path), torch.float32)
    stored = stored_prompt(tmp_path / "model")
    prompt = Prompt.from_dict(stored, loaded.tokenizer, stop_ids=stop_ids(loaded.model))
    trained = Prompt(load(tiny_model).tokenizer, instruction="Count the words.")
    for example in examples(5):
        taught = trained.teach(example.messages, example.output, loss_on="completion")
        asked = prompt.ask(example.messages)
        assert asked == taught.ids[: len(asked)]
    other = copy.deepcopy(loaded.tokenizer)
    other.chat_template = other.chat_template.replace("<|im_start|>assistant", "<|im_start|>bot")
    with pytest.raises(ModelError, match="chat template is not the one"):
        Prompt.from_dict(stored, other, stop_ids=stop_ids(loaded.model))
