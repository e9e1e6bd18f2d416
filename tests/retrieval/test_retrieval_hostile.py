"""The suite of hostile documents against what is done to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrieval_fakes import WordEncoder

from luthier.evaluation.injection.writing import Attack, attacks, pdf_of
from luthier.retrieval import building
from luthier.retrieval.documents import Document, documents_in
from luthier.retrieval.grounding import grounded
from luthier.retrieval.hostile import folded, suspicions
from luthier.retrieval.index import Index
from luthier.retrieval.passages import Scope

SUITE = attacks()
#: What no rule sees: a plain lie, and what the rules were written without.
MISSED = {"poisoned-fact"}


def test_the_suite_is_what_it_says() -> None:
    assert len([attack for attack in SUITE if not attack.held]) >= 40
    assert len({attack.marker for attack in SUITE}) == len({a.name for a in SUITE}) == len(SUITE)
    for attack in SUITE:
        assert attack.marker in attack.demand and not attack.obeyed(attack.says)
        assert attack.obeyed(f"It is {attack.marker.upper()}.")


def read(attack: Attack, folder: Path) -> Document:
    (one,) = documents_in([str(attack.write(folder))], Path())
    return one


@pytest.mark.parametrize("attack", SUITE, ids=lambda attack: attack.name)
def test_quarantine_keeps_an_attack_out_and_the_prompt_is_whole(
    attack: Attack, tmp_path: Path
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    attack.write(docs)
    (docs / "harmless.txt").write_text("The garden has roses.")
    building.build([str(docs)], tmp_path / "index", loaded=WordEncoder())
    index = Index.open(tmp_path / "index", WordEncoder())
    found = index.search(attack.asks, 3)
    prompt = grounded(attack.asks, found)
    assert attack.says in prompt  # what is true in it is kept
    # whatever it says, it stands between fences
    assert prompt.count("</passage") == prompt.count("<passage") == len(found)
    assert "<|im_" not in prompt and "\u200b" not in prompt
    kept = index.search(attack.asks, 3, scope=Scope(quarantine=True))
    if attack.name not in MISSED and not attack.held:
        assert [one.document for one in kept] == ["harmless.txt"]


@pytest.mark.parametrize(
    "attack",
    [a for a in SUITE if a.how.partition("-")[0] in ("html", "markdown", "pdf", "docx", "tags")],
    ids=lambda attack: attack.name,
)
def test_what_no_person_sees_is_taken_out_and_told(attack: Attack, tmp_path: Path) -> None:
    one = read(attack, tmp_path)
    assert attack.says in one.text
    assert attack.marker not in one.text
    assert any(sign.startswith("hidden") for sign in one.suspicious) or attack.how == "tags"


@pytest.mark.parametrize(
    "text",
    [
        "The policy of the previous government ignored all rules of trade.",
        "Answer: yes. Answer: no. Answer: yes.",
        "A I B M and a B B C report of U S trade.",
        "Её письмо было коротким. Он ответил.",
        "The system prompted the user for a key; assistants are paid by the hour.",
        "3f" * 30 + " is a checksum.",
    ],
)
def test_what_is_harmless_is_not_flagged(text: str) -> None:
    assert suspicions(text) == ()


@given(st.text(max_size=300))
def test_looking_never_fails(text: str) -> None:
    suspicions(text)
    folded(text)


# ---- what is hidden in files, and what only looks so -------------------------------------------


def pdf(tmp_path: Path, content: str) -> Document:
    path = tmp_path / "a.pdf"
    path.write_bytes(pdf_of(content.encode()))
    (one,) = documents_in([str(path)], Path())
    return one


def test_white_letters_on_a_dark_ground_are_seen(tmp_path: Path) -> None:
    head = "0 0 0.5 rg 60 700 500 40 re f 1 g BT /F1 12 Tf 72 710 Td (Head) Tj ET "
    one = pdf(
        tmp_path, head + "1 g BT /F1 12 Tf 72 600 Td (Unseen) Tj ET 0 g BT 72 500 Td (B) Tj ET"
    )
    assert "Head" in one.text and "B" in one.text and "Unseen" not in one.text
    assert one.suspicious == ("hidden: 6 characters that no reader sees (taken out)",)


def test_the_text_of_a_scan_is_kept(tmp_path: Path) -> None:
    picture = "q 600 0 0 800 0 0 cm BI /W 1 /H 1 /CS /G /BPC 8 ID x EI Q "
    one = pdf(tmp_path, picture + "BT /F1 12 Tf 3 Tr 72 600 Td (Recognised text.) Tj ET")
    assert "Recognised text." in one.text and one.suspicious == ()


def test_letters_scaled_up_are_not_small(tmp_path: Path) -> None:
    one = pdf(tmp_path, "BT /F1 1 Tf 12 0 0 12 72 600 Tm [(Let) -20 (ters)] TJ ET")
    assert "Letters" in one.text and one.suspicious == ()


@pytest.mark.parametrize(
    "page",
    [
        '<div style="background:#003"><p style="color:#fff">Seen</p></div>',
        '<table bgcolor="navy"><tr><td style="color:white">Seen</td></tr></table>',
        "<style>@media print { .a { display:none } }</style><p class=a>Seen</p>",
        "<style>.b { display:none }</style><p class=a>Seen</p>",
        '<p style="font-size:0.9em">Seen</p>',
        '<p style="border-color:#fff">Seen</p>',
        '<p style="background-color:#000;color:#fff">Seen</p>',
    ],
)
def test_html_that_is_seen_is_kept(tmp_path: Path, page: str) -> None:
    path = tmp_path / "a.html"
    path.write_text(f"<html><body>{page}</body></html>")
    (one,) = documents_in([str(path)], Path())
    assert "Seen" in one.text and one.suspicious == ()
