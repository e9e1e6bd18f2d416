"""Metrics against the reference libraries and hand-computed values."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.errors import InputError
from luthier.evaluation.metrics.fields import flatten, parse_json
from luthier.evaluation.metrics.spans import parse_entities, place_entities
from luthier.evaluation.metrics.squad import normalise_answer, told_answers
from luthier.evaluation.scoring import (
    METRICS,
    ScoringRows,
    deciding_metric,
    invalid_rows,
    match_label,
    metric_for,
    metrics_for,
    score,
)
from luthier.task import DEFAULT_METRICS, KINDS

LABELS = ("ABBR", "DESC", "ENTY", "HUM")


def rows(kind, references, predictions, inputs=None, **more):
    inputs = inputs if inputs is not None else [""] * len(references)
    return ScoringRows(
        kind=kind, inputs=inputs, references=references, predictions=predictions, **more
    )


# --- the registry


def test_every_kind_has_its_default_metric():
    for kind in KINDS:
        assert DEFAULT_METRICS[kind] in metrics_for(kind)
        assert deciding_metric(DEFAULT_METRICS[kind], kind).decides


def test_names_that_are_promised():
    promised = (
        "accuracy macro_f1 mcc span_f1 span_precision span_recall field_f1 field_precision "
        "field_recall json_valid exact_match f1 rouge1 rouge2 rougeL rougeLsum bleu chrf"
    )
    assert set(promised.split()) <= set(METRICS.names())


def test_unknown_metric_names_the_nearest():
    with pytest.raises(InputError, match="accuracy"):
        metric_for("acuracy", "classification")


def test_unsuited_metric_names_those_that_suit():
    with pytest.raises(InputError, match="rouge1"):
        metric_for("accuracy", "summarization")


def test_describing_metric_cannot_decide():
    with pytest.raises(InputError, match="describes"):
        deciding_metric("length_ratio", "summarization")


def test_no_rows():
    with pytest.raises(InputError, match="no rows"):
        score("accuracy", rows("classification", [], [], labels=LABELS))


def test_rows_of_different_length():
    with pytest.raises(ValueError, match="length"):
        rows("qa", ["a"], ["a", "b"])


# --- labels and classification


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("DESC", "DESC"),
        ("  desc\n", "DESC"),
        ("**DESC**", "DESC"),
        ('"Desc".', "DESC"),
        ("'DESC.'", "DESC"),
        ("`DESC`!", "DESC"),
        ("DESC:", "DESC"),
        ("Answer: DESC", None),
        ("DESC ENTY", None),
        ("DES", None),
        ("", None),
    ],
)
def test_match_label(text, label):
    assert match_label(text, LABELS) == label


def test_match_label_keeps_case_and_punctuation_that_tell_labels_apart():
    assert match_label("us", ("US", "us")) == "us"
    assert match_label("Us", ("US", "us")) is None
    assert match_label("etc.", ("etc.", "etc")) == "etc."
    assert match_label("ETC.", ("etc.", "etc")) == "etc."


answers = st.lists(
    st.tuples(st.sampled_from(LABELS), st.sampled_from((*LABELS, "who knows", ""))),
    min_size=1,
    max_size=40,
)


@given(answers)
@settings(max_examples=80, deadline=None)
@pytest.mark.filterwarnings("ignore:A single label was found")
def test_classification_equals_scikit_learn(pairs):
    from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef

    truth = [reference for reference, _ in pairs]
    given_ = [prediction for _, prediction in pairs]
    coded = [label if label in LABELS else "invalid" for label in given_]
    table = rows("classification", truth, given_, labels=LABELS)
    occurring = sorted((set(truth) | set(coded)) - {"invalid"})
    assert score("accuracy", table).value == pytest.approx(accuracy_score(truth, coded))
    assert score("macro_f1", table).value == pytest.approx(
        f1_score(truth, coded, labels=occurring, average="macro", zero_division=0)
    )
    assert score("mcc", table).value == pytest.approx(matthews_corrcoef(truth, coded), abs=1e-12)
    scored = score("accuracy", table)
    assert scored.invalid_rate == pytest.approx(coded.count("invalid") / len(coded))
    assert list(scored.row_scores) == [float(a == b) for a, b in zip(truth, coded, strict=True)]


def test_labels_are_inferred_from_the_references():
    table = rows("classification", ["yes", "no", "no"], ["Yes.", "no", "maybe"])
    assert score("accuracy", table).value == pytest.approx(2 / 3)
    assert list(invalid_rows(table)) == [False, False, True]


def test_calibration_error_by_hand_and_only_with_probabilities():
    chances = [{"a": 0.9, "b": 0.1}, {"a": 0.9, "b": 0.1}, {"a": 0.4, "b": 0.6}]
    table = rows(
        "classification", ["a", "b", "b"], ["a", "a", "b"], labels=("a", "b"), probabilities=chances
    )
    # bin of 0.9: mean confidence 0.9, half right; bin of 0.6: 0.6, all right
    assert score("ece", table).value == pytest.approx((2 * 0.4 + 1 * 0.4) / 3)
    assert "ece" in metrics_for("classification", table)
    without = rows("classification", ["a"], ["a"], labels=("a", "b"))
    assert "ece" not in metrics_for("classification", without)
    assert "ece" not in metrics_for("classification")


# --- named entities


def tags(tokens, entities):
    out = ["O"] * len(tokens)
    for kind, start, size in place_entities(tokens, entities):
        out[start : start + size] = [f"B-{kind}", *[f"I-{kind}"] * (size - 1)]
    return out


@st.composite
def sentences(draw):
    tokens = draw(st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=12))

    def entities():
        spans, at = [], 0
        while at < len(tokens):
            size = draw(st.integers(1, 3))
            if draw(st.booleans()) and at + size <= len(tokens):
                spans.append((draw(st.sampled_from(["per", "loc"])), at, size))
                at += size
            else:
                at += 1
        return [(kind, " ".join(tokens[at : at + size])) for kind, at, size in spans]

    return tokens, entities(), entities()


def written(entities):
    return "\n".join(f"{kind}: {surface}" for kind, surface in entities) or "none"


@given(st.lists(sentences(), min_size=1, max_size=6))
@settings(max_examples=80, deadline=None)
def test_spans_equal_seqeval_strict(cases):
    from seqeval.metrics import f1_score, precision_score, recall_score
    from seqeval.scheme import IOB2

    # seqeval cannot hold what cannot be placed; those rows are tested by hand below
    cases = [
        (t, a, b)
        for t, a, b in cases
        if all(len(place) == 3 for e in (a, b) for place in place_entities(t, e))
    ]
    if not any(a or b for _, a, b in cases):
        return
    truth = [tags(t, a) for t, a, _ in cases]
    guess = [tags(t, b) for t, _, b in cases]
    table = rows(
        "ner",
        [written(a) for _, a, _ in cases],
        [written(b) for _, _, b in cases],
        [" ".join(t) for t, _, _ in cases],
    )
    options = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    assert score("span_f1", table).value == pytest.approx(f1_score(truth, guess, **options))
    if any(b for _, _, b in cases):
        assert score("span_precision", table).value == pytest.approx(
            precision_score(truth, guess, **options)
        )
    if any(a for _, a, _ in cases):
        assert score("span_recall", table).value == pytest.approx(
            recall_score(truth, guess, **options)
        )


@pytest.mark.parametrize(
    ("prediction", "counts"),
    [
        ("PER: Ann Lee\nLOC: Paris", (2, 0, 0)),
        ("loc:  Paris\nper: Ann Lee", (2, 0, 0)),  # order, case of types, spaces
        ("PER: Ann\nLOC: Paris", (1, 1, 1)),  # boundary
        ("LOC: Ann Lee\nLOC: Paris", (1, 1, 1)),  # type
        ("PER: Ann Lee\nLOC: London", (1, 1, 1)),  # not in the input
        ("PER: Ann Lee\nPER: Ann Lee\nLOC: Paris", (2, 1, 0)),  # said twice
        ("PER: Ann Lee\nand Paris", (1, 1, 1)),  # not a line
        ("none", (0, 0, 2)),
        ("", (0, 0, 2)),
    ],
)
def test_spans_by_hand(prediction, counts):
    table = rows(
        "ner", ["PER: Ann Lee\nLOC: Paris"], [prediction], ["Ann Lee moved to Paris, they say."]
    )
    assert tuple(score("span_f1", table).statistics[0]) == counts


def test_longer_surfaces_are_placed_first_and_the_leftmost_free_place_taken():
    tokens = ["New", "York", "beats", "York"]
    assert set(place_entities(tokens, [("loc", "York"), ("loc", "New York")])) == {
        ("loc", 0, 2),
        ("loc", 3, 1),
    }
    assert place_entities(["a", "a"], [("x", "a"), ("y", "a")]) == [("x", 0, 1), ("y", 1, 1)]


def test_spans_invalid_answers_and_nothing_to_find():
    table = rows("ner", ["none"] * 4, ["none", "None.", "", "I see no one"], ["hello"] * 4)
    assert list(invalid_rows(table)) == [False, False, True, True]
    assert list(score("span_f1", table).row_scores) == [1, 1, 1, 0]


@given(st.text(max_size=200))
def test_parse_entities_takes_anything(text):
    entities, broken = parse_entities(text)
    assert broken >= 0
    assert all(kind and surface for kind, surface in entities)


# --- extraction


def test_flatten_by_hand():
    value = {"a": {"b": " X  y "}, "n": 3.0, "l": ["p", "q", "p"], "o": [{"k": True}], "e": None}
    assert dict(flatten(value)) == {
        ("a.b", "x y"): 1,
        ("n", "3"): 1,
        ("l[]", "p"): 2,
        ("l[]", "q"): 1,
        ("o[0].k", "true"): 1,
    }


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (3, "3.0", True),
        ("1,200", 1200, True),
        ("1e2", 100, True),
        (-0.0, 0, True),
        ("12,34", 1234, False),
        ("Blue ", "blue", True),
        ("blue", "green", False),
        (True, "true", True),
        (True, 1, False),
    ],
)
def test_values_are_compared_normalised(one, other, same):
    assert (flatten({"v": one}) == flatten({"v": other})) is same


def test_fields_by_hand():
    reference = json.dumps({"name": "Ann", "age": 30, "tags": ["a", "b"]})
    predictions = [
        reference,
        '{"name": "ann", "age": 31, "tags": ["b"]}',
        '```json\n{"name": "Ann"}\n```',
        "name: Ann",
    ]
    table = rows("extraction", [reference] * 4, predictions)
    scored = score("field_f1", table)
    assert scored.statistics.tolist() == [[4, 0, 0], [2, 1, 2], [1, 0, 3], [0, 0, 4]]
    assert scored.value == pytest.approx(2 * 7 / (2 * 7 + 1 + 9))
    assert score("field_precision", table).value == pytest.approx(7 / 8)
    assert score("field_recall", table).value == pytest.approx(7 / 16)
    assert score("json_valid", table).value == 0.75
    assert scored.invalid_rate == 0.25
    assert score("exact_match", table).row_scores.tolist() == [1, 0, 0, 0]


def test_nothing_wanted_and_unreadable_answer_is_not_perfect():
    table = rows("extraction", ["{}", "{}"], ["{}", "hm"])
    assert score("field_f1", table).row_scores.tolist() == [1, 0]


def test_reference_that_is_not_json_names_its_row():
    with pytest.raises(InputError, match="row 2"):
        score("field_f1", rows("extraction", ["{}", "name: Ann"], ["{}", "{}"]))


@pytest.mark.parametrize("text", ["", "NaN", '{"a": NaN}', "5", '"x"', "[" * 100_000, "9" * 5000])
def test_not_json(text):
    assert parse_json(text) is None


def test_deep_nesting_and_huge_numbers_do_not_raise():
    deep = "[" * 900 + "1" + "]" * 900
    assert flatten(parse_json(deep)).total() == 1
    flatten({"a": "1e999999", "b": "9" * 400, "c": "1e-999999"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
).filter(lambda value: isinstance(value, dict | list))


@given(json_values.filter(lambda v: "Infinity" not in json.dumps(v)))
@settings(deadline=None)
def test_an_answer_equal_to_its_reference_is_perfect(value):
    text = json.dumps(value)
    table = rows("extraction", [text], [text])
    assert score("field_f1", table).value == 1
    assert score("exact_match", table).value == 1


# --- question answering


def test_squad_by_hand():
    references = ["The Eiffel Tower", "in 1889", json.dumps(["Gustave Eiffel", "Eiffel"]), "[]"]
    predictions = ["eiffel tower!", "1889", "Eiffel", ""]
    table = rows("qa", references, predictions)
    assert score("exact_match", table).row_scores.tolist() == [1, 0, 1, 1]
    assert score("f1", table).row_scores.tolist() == pytest.approx([1, 2 / 3, 1, 1])
    assert score("f1", table).invalid_rate == 0


def test_squad_no_overlap_and_empty():
    table = rows("qa", ["a dog", "cat", "[]"], ["cat", "", "something"])
    assert score("f1", table).row_scores.tolist() == [0, 0, 0]
    assert score("f1", table).invalid_rate == pytest.approx(1 / 3)


def test_saying_that_there_is_no_answer():
    references = ["[]", "unanswerable", "", '["", "the"]', '["Rome"]', "Rome"]
    right = ["", "Unanswerable.", "unanswerable", "", "rome", "Rome"]
    assert score("f1", rows("qa", references, right)).row_scores.tolist() == [1] * 6
    wrong = ["Rome", "none", "a Rome", "x", "unanswerable", ""]
    scored = score("exact_match", rows("qa", references, wrong))
    assert scored.row_scores.tolist() == [0] * 6
    assert scored.invalid_rate == pytest.approx(1 / 6)  # empty, where there is an answer


def test_questions_with_and_without_an_answer():
    table = rows("qa", ["the cat sat", "[]", "dog", "[]"], ["cat", "", "", "a dog"])
    assert score("has_answer_f1", table).value == pytest.approx((2 / 3 + 0) / 2)
    assert score("no_answer_f1", table).value == 0.5
    assert {"has_answer_f1", "no_answer_f1"} <= set(metrics_for("qa", table))
    assert "no_answer_f1" not in metrics_for("qa", rows("qa", ["cat"], ["cat"]))
    assert "no_answer_f1" not in metrics_for("qa")


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ('["Le Grande", "the le grande", "LeGrande"]', ["Le Grande", "LeGrande"]),
        ("not in the documents", ["not in the documents"]),
        ("[]", ["[]"]),
        ('["", "x"]', ["x"]),
        ("[1, 2]", ["[1, 2]"]),
        ("[broken", ["[broken"]),
        ("plain", ["plain"]),
    ],
)
def test_right_answers_as_people_read_them(reference, told):
    assert told_answers(reference) == told


def test_squad_normalisation():
    assert normalise_answer("  The U.S.A.'s  an-apple, a\tday ") == "usas anapple day"


# --- texts

WORDS = ["the", "a", "cat", "dog", "sat", "on", "mat", ".", ",", "It's", "3.5"]
SENTENCES = st.lists(st.sampled_from(WORDS), max_size=14)
TEXTS = st.lists(
    st.tuples(SENTENCES.map(" ".join), SENTENCES.map(" ".join)), min_size=1, max_size=8
)


@given(TEXTS)
@settings(max_examples=100, deadline=None)
def test_bleu_and_chrf_equal_sacrebleu(pairs):
    from sacrebleu.metrics import BLEU, CHRF

    references, predictions = [r for r, _ in pairs], [p for _, p in pairs]
    table = rows("translation", references, predictions)
    for name, metric in (("bleu", BLEU()), ("chrf", CHRF())):
        scored = score(name, table)
        assert 100 * scored.value == pytest.approx(
            metric.corpus_score(predictions, [references]).score, abs=1e-9
        )
        sentence = BLEU(effective_order=True) if name == "bleu" else metric
        for i, (reference, prediction) in enumerate(pairs):
            assert 100 * scored.row_scores[i] == pytest.approx(
                sentence.sentence_score(prediction, [reference]).score, abs=1e-9
            )


def test_signatures():
    assert (
        METRICS.get("bleu").signature().startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp")
    )
    assert METRICS.get("chrf").signature().startswith("nrefs:1|case:mixed|eff:yes|nc:6|nw:0")


@given(TEXTS, st.booleans())
@settings(max_examples=60, deadline=None)
def test_rouge_equals_the_library(pairs, lines):
    from rouge_score.rouge_scorer import RougeScorer

    if lines:
        pairs = [(r.replace(" . ", "\n"), p.replace(" . ", "\n")) for r, p in pairs]
    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    library = RougeScorer(names)
    table = rows("summarization", [r for r, _ in pairs], [p for _, p in pairs])
    expected = [library.score(r, p) for r, p in pairs]
    for name in names:
        scored = score(name, table)
        assert scored.row_scores.tolist() == pytest.approx([e[name].fmeasure for e in expected])
        assert scored.value == pytest.approx(np.mean([e[name].fmeasure for e in expected]))


def test_rouge_sees_letters_outside_english():
    table = rows(
        "summarization", ["кошка спит", "über alles", "猫が寝る"], ["кошка", "alles", "猫が"]
    )
    assert score("rouge1", table).row_scores.tolist() == pytest.approx([2 / 3, 2 / 3, 2 / 3])


def test_length_ratio():
    table = rows("summarization", ["a b c", "d"], ["a b", ""])
    assert score("length_ratio", table).value == 0.5
    assert score("rougeL", table).invalid_rate == 0.5


def test_exact_match_of_generation():
    table = rows("generation", ["A  b\n", "x"], ["A b", "X"])
    assert score("exact_match", table).row_scores.tolist() == [1, 0]


# --- every metric


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_values_are_finite_in_range_and_add_up(data):
    name = data.draw(st.sampled_from([n for n, m in METRICS if m.decides]))
    metric = METRICS.get(name)
    kind = data.draw(st.sampled_from(sorted(metric.kinds)))
    text = st.sampled_from(
        ["", "none", "PER: a", "a b", '{"a": 1}', "HUM", "DESC.", "a cat sat", "```", "é"]
    )
    reference = st.sampled_from(['{"a": 1}', "{}"]) if kind == "extraction" else text
    pairs = data.draw(st.lists(st.tuples(reference, text), min_size=1, max_size=6))
    table = rows(
        kind,
        [r for r, _ in pairs],
        [p for _, p in pairs],
        ["a b a"] * len(pairs),
        labels=LABELS if kind == "classification" else None,
        judged=data.draw(st.lists(st.sampled_from([0.0, 0.5, 1.0]), min_size=6))[: len(pairs)],
    )
    scored = score(name, table)
    low = -1 if name == "mcc" else 0
    assert low <= scored.value <= 1 + 1e-12
    assert scored.row_scores.shape == (len(pairs),)
    assert all(math.isfinite(s) and 0 <= s <= 1 + 1e-12 for s in scored.row_scores)
    # many sums at once give what each gives alone
    sums = np.stack([scored.statistics.sum(axis=0), scored.statistics[0], 0 * scored.statistics[0]])
    values = metric.value(sums)
    assert values[0] == pytest.approx(scored.value)
    assert np.isfinite(values).all()
    if metric.binary:
        assert set(scored.statistics[:, 0]) <= {0.0, 1.0}
        assert scored.value == pytest.approx(scored.row_scores.mean())
