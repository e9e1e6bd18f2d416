"""The task file: what it may say, and what is said when it says something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.errors import InputError
from luthier.task import DEFAULT_METRICS, KINDS, Task

SMALL: dict[str, Any] = {
    "name": "trec",
    "kind": "classification",
    "data": {"train": "train.csv", "input": "{{ q }}", "output": "{{ k }}"},
}


def task(**changes: Any) -> Task:
    return Task.from_dict({**SMALL, **changes}, path="folder/task.yaml")


def failure(**changes: Any) -> str:
    with pytest.raises(InputError) as caught:
        task(**changes)
    message = str(caught.value)
    assert message.startswith("folder/task.yaml: ")
    return message


def data(**changes: Any) -> dict[str, Any]:
    merged = {**SMALL["data"], **changes}
    return {key: value for key, value in merged.items() if value is not ...}


def test_defaults() -> None:
    small = task()
    assert small.model == "smollm2-135m-instruct"
    assert small.arms == "auto"
    assert small.seed == 0
    assert small.labels is None
    assert small.data.limit.train is None
    assert small.success.margin == 0.02
    assert small.success.max_forgetting == 0.05
    assert small.budget.minutes == 20
    assert small.training.loss_on == "completion"
    assert small.wanted == ()


def test_every_kind_has_a_metric() -> None:
    assert set(DEFAULT_METRICS) == set(KINDS)
    for kind in KINDS:
        assert task(kind=kind).scored_by == DEFAULT_METRICS[kind]
    assert task(metric="macro_f1").scored_by == "macro_f1"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"modle": "x"}, "unknown key `modle`. Did you mean 'model'?"),
        ({"data": data(tran="x")}, "unknown key `data.tran`. Did you mean 'train'?"),
        (
            {"data": data(limit={"trian": 5})},
            "unknown key `data.limit.trian`. Did you mean 'train'?",
        ),
        ({"training": {"learning-rate": 1}}, "Did you mean 'learning_rate'?"),
        ({"success": {"margins": 1}}, "unknown key `success.margins`. Did you mean 'margin'?"),
        ({"zzzzzz": 1}, "unknown key `zzzzzz`. Known: arms, budget,"),
    ],
)
def test_unknown_keys_suggest_the_nearest_name(changes: dict[str, Any], expected: str) -> None:
    assert expected in failure(**changes)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"seed": "many"}, "`seed`"),
        ({"seed": -1}, "`seed`"),
        ({"data": data(limit={"train": 0})}, "`data.limit.train`"),
        ({"data": data(limit={"train": "x"})}, "`data.limit.train`"),
        ({"data": "train.csv"}, "`data`"),
        ({"data": data(train=3)}, "`data.train`"),
        ({"data": data(train=...)}, "`data.train` is missing"),
        ({"name": "no/slash"}, "`name`"),
        ({"name": ""}, "`name`"),
        ({"success": {"margin": 2}}, "`success.margin`"),
        ({"training": {"overlong": "ignore"}}, "`training.overlong`"),
        ({"labels": "ABBR"}, "`labels`"),
        ({"labels": ["a"]}, "at least two labels"),
        ({"labels": ["a", "b", "a"]}, "a listed twice"),
        ({"labels": ["a", " "]}, "a label is empty"),
        ({"kind": "chat", "labels": ["a", "b"]}, "`labels` belong to kind: classification"),
        ({"kind": "clasification"}, "Did you mean 'classification'?"),
        ({"arms": []}, "`arms` is empty"),
        ({"arms": 3}, "`arms`"),
        ({"budget": {"minutes": 0}}, "`budget.minutes`"),
        ({"generation": {"top_p": 0}}, "`generation.top_p`"),
    ],
)
def test_wrong_values_name_their_key(changes: dict[str, Any], key: str) -> None:
    assert key in failure(**changes)


@pytest.mark.parametrize(
    "section",
    [
        data(input=..., output=...),
        data(template="alpaca"),
        data(messages="talk"),
        data(input=..., output=..., template="alpaca", messages="talk"),
    ],
)
def test_there_is_one_way_to_read_a_row(section: dict[str, Any]) -> None:
    assert "exactly one of `input`" in failure(data=section)


def test_input_and_output_belong_together() -> None:
    assert "belong together" in failure(data=data(output=...))
    assert "belong together" in failure(data=data(input=..., messages="talk"))


@pytest.mark.parametrize("values", [None, [], "text", 3])
def test_a_file_without_a_mapping_is_no_task(values: Any) -> None:
    with pytest.raises(InputError, match="holds no task"):
        Task.from_dict(values)


def test_loading_from_a_file_and_from_a_folder(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    for source in (path, tmp_path, str(path)):
        loaded = Task.load(source)
        assert loaded.name == "trec"
        assert loaded.path == path
        assert loaded.folder == tmp_path


def test_the_folder_is_absolute_when_the_path_was_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "inside").mkdir()
    (tmp_path / "inside" / "task.yaml").write_text(yaml.safe_dump(SMALL), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    loaded = Task.load("inside/task.yaml")
    monkeypatch.chdir("/")
    assert loaded.folder == tmp_path / "inside"


def test_a_missing_file_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"task\.yaml does not exist.*luthier init"):
        Task.load(tmp_path / "task.yaml")
    with pytest.raises(InputError, match=r"task\.yaml does not exist"):
        Task.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: trec\nkind: [a\ndata: x\n", "line 3"),
        ("name: trec\n\tkind: x\n", "line 2"),
        ('name: "trec\n', "line 2"),
        ("", "holds no task"),
    ],
)
def test_broken_yaml_names_the_line(tmp_path: Path, text: str, expected: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        Task.load(path)
    assert str(path) in str(caught.value)
    assert expected in str(caught.value)


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_bytes(b"name: caf\xe9\n")
    with pytest.raises(InputError, match=r"not UTF-8 text \(byte 9\)"):
        Task.load(tmp_path)


def test_a_task_comes_back_from_its_dictionary(tmp_path: Path) -> None:
    first = task(
        labels=["A", "B"],
        goal=" g\n",
        instruction="Do it.\n",
        arms=["prompt", "lora"],
        success={"at_least": 0.8},
        data=data(limit={"train": 5}, group="thread"),
    )
    assert first.instruction == "Do it."
    assert first.goal == "g"
    path = tmp_path / "task.yaml"
    path.write_text(yaml.safe_dump(first.to_dict()), encoding="utf-8")
    again = Task.load(path)
    assert again.to_dict() == first.to_dict()
    assert again.arms == ("prompt", "lora")
    assert again.data == first.data


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"seed": "many"}, "`seed`: a whole number is expected, not 'many'."),
        ({"seed": 1.5}, "`seed`: a whole number is expected, not 1.5."),
        ({"seed": True}, "`seed`: YAML reads yes, no"),
        ({"seed": -1}, "`seed` must be at least 0, not -1."),
        ({"seed": None}, "not nothing. Give it a value, or leave the key out."),
        ({"budget": {"minutes": False}}, "`budget.minutes`: YAML reads"),
        ({"budget": {"minutes": float("inf")}}, "`budget.minutes`: a finite number is expected"),
        ({"success": {"at_least": float("nan")}}, "`success.at_least`"),
        ({"success": {"margin": 1}}, "`success.margin` must be less than 1, not 1."),
        ({"data": data(limit={"train": True})}, "`data.limit.train`: YAML reads"),
        ({"data": data(train="")}, "`data.train`: is blank"),
        ({"data": data(input="  ")}, "`data.input`: is blank"),
        ({"data": data(test=" ")}, "`data.test`: is blank"),
        ({"data": "rows.csv"}, "`data`: a section of `key: value` lines is expected, not 'rows"),
        ({"training": []}, "`training`: a section of `key: value` lines is expected, not a list."),
        ({"labels": [True, False]}, "`labels`: YAML reads yes, no"),
        ({"labels": ["a", "a "]}, "a listed twice"),
        ({"labels": [1, 2]}, "`labels.0`: text is expected, not 1. Put quotes around it."),
        ({"labels": "a, b"}, "`labels`: a list is expected, not 'a, b'."),
        ({"arms": "lora"}, "`arms`: a list of names, or auto, is expected, not 'lora'."),
        ({"arms": {"lora": 1}}, "`arms`: a list of names, or auto, is expected, not a section."),
        ({"arms": ["lora", 3]}, "`arms.1`: text is expected, not 3."),
        ({"name": 3}, "`name`: text is expected, not 3. Put quotes around it."),
        ({"name": "a b"}, "`name` is 'a b'; it may hold letters"),
        ({"name": ""}, "`name` is empty."),
        ({"kind": 5}, "`kind`: one of classification, "),
        ({"training": {"overlong": "drp"}}, "`training.overlong` is 'drp'. Did you mean 'drop'?"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(changes: dict[str, Any], said: str) -> None:
    message = failure(**changes)
    assert said in message
    for jargon in ("valid tuple", "instance of", "Input should", "dictionary"):
        assert jargon not in message


def test_each_mistake_is_said_once() -> None:
    assert failure(arms="lora").count("`arms`") == 1
    assert failure(arms=["lora", 3]).count("`arms") == 1


def test_labels_are_stripped() -> None:
    assert task(labels=[" yes", "no\n"]).labels == ("yes", "no")


def test_an_endless_value_is_not_written_out() -> None:
    bomb: Any = "x"
    for _ in range(60):
        bomb = [bomb, bomb]
    assert len(failure(kind=bomb)) < 300
    assert len(failure(name=bomb)) < 300


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: a\nname: b\n", "line 2, column 1: the key `name` is given twice, first in line 1"),
        ("data:\n  train: a\n  test: b\n  train: c\n", "line 4, column 3: the key `train`"),
        ("a: " + "[" * 5000, "nested too deeply"),
        ("a: " + "{a: " * 5000, "nested too deeply"),
        ("name: a\ngoal: b\0c\n", "line 2 holds a NUL byte. Take it out."),
        ("name: a\n\x07\n", "line 2 holds the control character U+0007"),
        ("name: 2024-99-99\n", "a value that YAML cannot read"),
        ("name: " + "9" * 5000, "a value that YAML cannot read"),
        ("name: !!python/object:os.system x\n", "could not determine a constructor"),
        ("? [a]\n: b\n", "line 1"),
    ],
)
def test_odd_yaml(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        Task.load(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(path))


def test_merged_keys_may_be_given_again(tmp_path: Path) -> None:
    path = tmp_path / "task.yaml"
    path.write_text(
        "name: a\nkind: chat\ndata:\n  <<: {train: b.csv, messages: m}\n  train: a.csv\n",
        encoding="utf-8",
    )
    assert Task.load(path).data.train == "a.csv"


@settings(deadline=None)
@given(st.binary(max_size=60) | st.text(alphabet="ab:-[]{}&*!? \n\t'\"#|>0", max_size=60))
def test_no_file_ends_in_a_traceback(tmp_path_factory: Any, content: bytes | str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError):
        Task.load(path)


@settings(deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from([*Task.model_fields, "other"]), inner, max_size=4)
        ),
        max_leaves=12,
    )
)
def test_nothing_ends_in_a_traceback(values: Any) -> None:
    try:
        Task.from_dict(values)
    except InputError as error:
        assert "\n" not in str(error).replace("\\n", "")
