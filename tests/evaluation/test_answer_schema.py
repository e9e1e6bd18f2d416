"""Structured answers: the schema they are held against, and what is said field by field."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.examples import Example, Message
from luthier.data.schemas import AnswerSchema, answer_schema, given_schema, infer_schema
from luthier.errors import InputError
from luthier.evaluation.scoring import ScoringRows, metrics_for, score
from luthier.evaluation.structure import by_field, structure
from luthier.runs import anchored
from luthier.task import Task

BOOKING = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "people": {"type": "integer", "minimum": 1},
        "day": {"type": "string", "format": "date"},
        "kind": {"enum": ["lunch", "dinner"]},
        "notes": {"type": "array", "items": {"$ref": "#/$defs/note"}},
    },
    "required": ["name", "people"],
    "additionalProperties": False,
    "$defs": {"note": {"type": "string", "maxLength": 20}},
}


def task(folder, **more):
    values = {
        "name": "t",
        "kind": "extraction",
        "data": {"train": "t.jsonl", "input": "{{ a }}", "output": "{{ b }}"},
        **more,
    }
    return Task.from_dict(values, path=folder / "task.yaml")


def rows(references, predictions, schema=None):
    return ScoringRows(
        kind="extraction",
        inputs=[""] * len(references),
        references=references,
        predictions=predictions,
        schema=schema,
    )


def examples(*outputs):
    return [
        Example(id=str(i), messages=(Message("user", "q"),), output=output, source=f"t:{i}")
        for i, output in enumerate(outputs)
    ]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"name": "Ann", "people": 2}, None),
        ({"name": "Ann", "people": 2, "day": "2024-05-01", "notes": ["late"]}, None),
        ({"name": "Ann"}, "'people' is a required property"),
        ({"name": "Ann", "people": "2"}, "people: '2' is not of type 'integer'"),
        ({"name": "Ann", "people": 0}, "people: 0 is less than the minimum of 1"),
        ({"name": "Ann", "people": 2, "day": "tomorrow"}, "day: 'tomorrow' is not a 'date'"),
        ({"name": "Ann", "people": 2, "notes": ["a", 5]}, "notes[1]: 5 is not of type 'string'"),
        ({"name": "A", "people": 2, "kind": "tea"}, "kind: 'tea' is not one of"),
        ([], "[] is not of type 'object'"),
    ],
)
def test_problems_name_their_place(value, problem):
    found = AnswerSchema(BOOKING, True).problem(value)
    assert found is None if problem is None else found.startswith(problem)


def test_a_schema_inline_and_in_files(tmp_path):
    inline = task(tmp_path, schema=BOOKING)
    assert given_schema(inline) == BOOKING
    (tmp_path / "booking.json").write_text(json.dumps(BOOKING, indent="\t"), "utf-8")
    assert given_schema(task(tmp_path, schema="booking.json")) == BOOKING
    (tmp_path / "booking.yaml").write_text("type: object\nrequired: [name]\n", "utf-8")
    in_yaml = task(tmp_path, schema="booking.yaml")
    assert given_schema(in_yaml) == {"type": "object", "required": ["name"]}
    # what a run folder holds stands alone
    assert anchored(in_yaml).to_dict()["schema"] == {"type": "object", "required": ["name"]}
    assert inline.changed(seed=3).answer_schema == BOOKING


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ("missing.json", "does not exist"),
        ("broken.json", "not valid JSON"),
        ("list.json", "an object is expected"),
        ({"type": "objekt"}, "type: 'objekt' is not valid"),
        ({"$ref": "#/$defs/none"}, "refers to '#/$defs/none'"),
        ({"items": {"$ref": "https://example.org/a.json"}}, "refers to 'https://example.org"),
    ],
)
def test_a_schema_that_is_none_is_refused(tmp_path, schema, said):
    (tmp_path / "broken.json").write_text("{", "utf-8")
    (tmp_path / "list.json").write_text("[1]", "utf-8")
    with pytest.raises(InputError, match=r"schema|json") as raised:
        given_schema(task(tmp_path, schema=schema))
    assert said in str(raised.value)


def test_the_key_is_checked(tmp_path):
    with pytest.raises(InputError, match="`schema`: a JSON schema, or the file"):
        task(tmp_path, schema=5)
    with pytest.raises(InputError, match="belongs to kind: extraction"):
        task(tmp_path, kind="qa", schema=BOOKING)
    with pytest.raises(InputError, match=r"`shema`.*schema"):
        task(tmp_path, shema=BOOKING)


def test_inferred_by_hand():
    values = [
        {"name": "Ann", "tags": ["a"], "at": {"x": 1}},
        {"name": None, "tags": [], "at": {"x": 2.5, "y": True}},
    ]
    assert infer_schema(values) == {
        "type": "object",
        "properties": {
            "name": {"type": ["null", "string"]},
            "tags": {"type": "array", "items": {"type": "string"}},
            "at": {
                "type": "object",
                "properties": {"x": {"type": "number"}, "y": {"type": "boolean"}},
                "required": ["x"],
                "additionalProperties": False,
            },
        },
        "required": ["name", "tags", "at"],
        "additionalProperties": False,
    }


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.lists(json_values, min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_values_meet_the_schema_that_is_inferred_from_them(values):
    schema = AnswerSchema(infer_schema(values), False)
    assert [schema.problem(value) for value in values] == [None] * len(values)


def test_where_the_schema_comes_from(tmp_path):
    train = examples('{"name": "Ann"}', '{"name": "Bo", "people": 2}')
    inferred = answer_schema(task(tmp_path), train)
    assert not inferred.given
    assert inferred.problem({"people": 2}) == "'name' is a required property"
    assert inferred.problem({"name": "Cy", "age": 3}) is not None
    given_ = answer_schema(task(tmp_path, schema=BOOKING), train)
    assert given_.given and given_.schema == BOOKING
    assert answer_schema(task(tmp_path), examples("name: Ann")) is None
    assert answer_schema(task(tmp_path, kind="qa"), train) is None


REFERENCE = json.dumps({"name": "Ann", "people": 2})
ANSWERS = [REFERENCE, '{"name": "Ann", "people": "2"}', '```json\n{"name": "Bo"}\n```', "Ann, 2"]


def test_schema_validity_is_a_metric_and_makes_answers_invalid_where_it_is_given():
    inferred = AnswerSchema(infer_schema([json.loads(REFERENCE)]), False)
    table = rows([REFERENCE] * 4, ANSWERS, inferred)
    assert score("schema_valid", table).row_scores.tolist() == [1, 0, 0, 0]
    assert score("field_f1", table).invalid_rate == 0.25
    table = rows([REFERENCE] * 4, ANSWERS, AnswerSchema(BOOKING, True))
    assert score("field_f1", table).invalid_rate == 0.75
    assert "schema_valid" in metrics_for("extraction", table)
    assert "schema_valid" not in metrics_for("extraction", rows([REFERENCE], ANSWERS[:1]))
    assert "schema_valid" not in metrics_for("extraction")


def test_field_by_field():
    references = ['{"name": "Ann", "items": [{"n": 1}, {"n": 2}]}', '{"name": "Bo"}']
    predictions = ['{"name": "ann", "items": [{"n": 1}, {"n": 3}]}', '{"nick": "Bo"}']
    table = {row["field"]: row for row in by_field(rows(references, predictions))}
    assert list(table) == ["items[].n", "name", "nick"]
    assert table["name"] == {
        "field": "name",
        "wanted": 2,
        "given": 1,
        "precision": 1.0,
        "recall": 0.5,
        "f1": pytest.approx(2 / 3),
    }
    assert (table["items[].n"]["precision"], table["items[].n"]["recall"]) == (0.5, 0.5)
    assert (table["nick"]["precision"], table["nick"]["wanted"]) == (0.0, 0)
    # the fields together are the metric
    whole = score("field_f1", rows(references, predictions)).statistics.sum(axis=0)
    given_, wanted = (sum(row[key] for row in table.values()) for key in ("given", "wanted"))
    assert (whole[0] + whole[1], whole[0] + whole[2]) == (given_, wanted)


def test_what_breaks_the_schema_is_counted():
    answers = [*ANSWERS, '{"name": "Ann", "people": "3"}']
    said = structure(rows([REFERENCE] * 5, answers, AnswerSchema(BOOKING, True)))["schema"]
    assert (said["given"], said["json_rate"], said["valid_rate"]) == (True, 0.8, 0.2)
    assert said["problems"][0] == {
        "problem": "people: a value is not of type 'integer'",
        "count": 2,
    }
    assert {"problem": "it is not JSON", "count": 1} in said["problems"]
    assert structure(rows([REFERENCE], [REFERENCE])).keys() == {"fields"}


def test_outputs_that_break_the_schema_are_found_before_anything_is_trained(tmp_path):
    from luthier.data.examples import Splits
    from luthier.data.linting import LINTS, LintContext

    good = json.dumps({"name": "Ann", "people": 2})
    bad = json.dumps({"name": "Ann", "people": "2"})
    splits = Splits(tuple(examples(good, bad)), (), tuple(examples(good, "Ann, 2")))
    lint = LINTS.get("schema")
    (finding,) = lint(LintContext(task(tmp_path, schema=BOOKING), splits))
    assert (finding.severity, finding.count, finding.rows) == ("error", 2, ("t:1", "t:1"))
    assert "people: '2' is not of type 'integer'" in finding.message
    assert not list(lint(LintContext(task(tmp_path), splits)))
    fine = Splits(tuple(examples(good)), (), ())
    assert not list(lint(LintContext(task(tmp_path, schema=BOOKING), fine)))
