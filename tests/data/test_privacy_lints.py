"""The lints for personal data and secrets: what stops a check, what warns, what is left alone."""

from __future__ import annotations

import pytest
from lint_samples import looked_at, run

from luthier.data.linting import Finding

CARD = "4539 1488 0343 6467"
KEY = "AKIA" + "Q3EGRJ5TXP2Z7MNB"
PLAIN = [(f"question {n}", f"answer {n}") for n in range(200)]


def severities(found: list[Finding]) -> list[str]:
    return [finding.severity for finding in found]


def test_clean_rows() -> None:
    rows = [
        *PLAIN,
        ("Who wrote Dracula?", "Bram Stoker"),
        ("version 10.4.1, order 1000234567 of 2024-05-01 for $1,299.00", "ok"),
        ("write to info@firma.se or support@firma.se", "you@example.com"),
        ("localhost is 127.0.0.1, call 555-0123", "4111 1111 1111 1111"),
        ("password: ${DB_PASSWORD}", "token = YOUR_TOKEN"),
    ]
    assert run("pii", looked_at(rows)) == [] and run("secrets", looked_at(rows)) == []


def test_a_card_that_would_be_learned_stops_the_check() -> None:
    (found,) = run("pii", looked_at([*PLAIN, ("pay", f"with card {CARD}")]))
    assert found.severity == "error" and found.count == 1 and found.rows == ("train.csv row 201",)
    assert "1 payment card number, such as ...6467" in found.message
    assert CARD not in found.message and "luthier redact FILE" in found.fix


def test_a_card_that_is_only_read_warns() -> None:
    assert severities(run("pii", looked_at([(f"card {CARD}", "thanks")]))) == ["warning"]
    # in the test, nothing is learned
    test = [("pay", f"with card {CARD}")]
    assert severities(run("pii", looked_at(PLAIN, test=test))) == ["warning"]
    # all of the row is trained
    context = looked_at([(f"card {CARD}", "thanks")], training={"loss_on": "all"})
    assert severities(run("pii", context)) == ["error"]


@pytest.mark.parametrize("kind", ["ner", "extraction"])
def test_where_numbers_are_what_is_asked_for_they_warn(kind: str) -> None:
    task = {"ner": {"labels": ["CARD"]}}.get(kind, {})
    context = looked_at([(f"card {CARD}", f"card {CARD}")], kind=kind, **task)  # type: ignore[arg-type]
    assert severities(run("pii", context))[0] == "warning"


def test_one_address_is_noted_many_warn() -> None:
    one = [*PLAIN, ("who is it", "anna.lind@firma.se")]
    assert severities(run("pii", looked_at(one))) == ["note"]
    many = [(f"who is {n}", f"Anna Lind, anna.lind{n}@firma.se") for n in range(20)]
    (found,) = run("pii", looked_at([*PLAIN, *many]))
    assert found.severity == "warning" and found.count == 20 and len(found.rows) == 20
    assert "20 e-mail addresses (all of these texts name a person too)" in found.message
    assert "anna.lind0" not in found.message


def test_people_who_introduce_themselves() -> None:
    rows = [(f"Hi, my name is Anna and I ask {n}", "hello") for n in range(10)]
    (found,) = run("pii", looked_at([*PLAIN, *rows]))
    assert found.severity == "note" and "10 training rows introduce people by name" in found.message


def test_a_key_stops_the_check_and_is_not_shown() -> None:
    (found,) = run("secrets", looked_at([*PLAIN, (f"my key {KEY}", "ok")]))
    assert found.severity == "error" and found.rows == ("train.csv row 201",)
    assert "1 API key or token, such as AK...NB" in found.message and KEY not in found.message
    assert "luthier redact FILE --types secret" in found.fix
    test = [("q", f"it is {KEY}")]
    assert severities(run("secrets", looked_at(PLAIN, test=test))) == ["error"]


def test_what_may_be_a_password_is_noted() -> None:
    (found,) = run("secrets", looked_at([*PLAIN, ("it is", "password: Summer2024!")]))
    assert found.severity == "note" and "1 password, such as S..." in found.message
    many = [(f"account {n}", f"password: Summer2024!{n}") for n in range(20)]
    assert severities(run("secrets", looked_at([*PLAIN, *many]))) == ["warning"]
