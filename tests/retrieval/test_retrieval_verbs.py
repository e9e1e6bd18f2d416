"""`luthier index` and `luthier ask` as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from retrieval_fakes import WordEncoder
from tiny_models import write_tiny_model
from typed_verbs import Capture, luthier

from luthier.models.encoder import Encoder

SECRET = "Grade seven earns 4200 euros."


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(Encoder, "load", lambda name, **rest: WordEncoder())
    monkeypatch.chdir(tmp_path)
    docs = tmp_path / "my docs"
    docs.mkdir()
    (docs / "canteen.txt").write_text("The canteen opens at noon. Soup costs two euros.")
    (docs / "pay.md").write_text(f"---\naccess: [hr]\ntitle: Secret grades\n---\n{SECRET}")
    return tmp_path


@pytest.mark.parametrize(
    ("verb", "options", "said"),
    [
        ("build", ("--encoder", "other"), "made with the encoder all-minilm-l6-v2, not other"),
        ("build", ("--size", 500), "1000 characters that overlap by 150, not 500 and 150"),
        ("add", ("--encoder", "other"), "their vectors cannot be compared"),
        ("add", ("--overlap", 10), "not 1000 and 10"),
        ("update", ("--encoder", "other"), "their vectors cannot be compared"),
        ("update", ("--size", 500, "--overlap", 20), "not 500 and 20"),
    ],
)
def test_other_settings_than_the_index_has_are_refused_with_the_command_that_rebuilds(
    capsys: Capture, home: Path, verb: str, options: tuple[Any, ...], said: str
) -> None:
    assert luthier(capsys, "index", "build", "my docs", "--out", "x")[0] == 0
    before = (home / "x" / "index.json").read_bytes()
    words = {"build": ("my docs", "--out", "x"), "add": ("x", "my docs"), "update": ("x",)}[verb]
    code, _, err = luthier(capsys, "index", verb, *words, *options)
    assert code == 2 and said in err and "Traceback" not in err
    assert (home / "x" / "index.json").read_bytes() == before
    # what is told can be typed as it stands
    import shlex

    command = shlex.split(err.split("Build it anew: ")[1])
    assert command[:3] == ["luthier", "index", "build"] and "x-new" in command
    assert luthier(capsys, *command[1:])[0] == 0
    # settings that it has are fine
    same = ("--encoder", "all-minilm-l6-v2", "--size", 1000, "--overlap", 150)
    if verb != "build":
        assert luthier(capsys, "index", verb, *words, *same)[0] == 0


def test_no_verb_prints_another_groups_document(capsys: Capture, home: Path) -> None:
    write_tiny_model(home / "model", context=1024)
    assert luthier(capsys, "index", "build", "my docs", "--out", "x")[0] == 0
    question = "What does grade seven earn?"
    hidden = (
        ("index", "search", "x", question),
        ("index", "search", "x", question, "--group", "it", "--mode", "bm25", "--json"),
        ("index", "search", "x", question, "--group", "hr'", "--rerank"),
        ("index", "search", "x", question, "--where", "access=hr"),
        ("index", "search", "x", question, "--where", "title=Secret grades"),
        ("index", "search", "x", question, "--version", 1),
        ("index", "list", "x"),
        ("index", "list", "x", "--json"),
        ("index", "history", "x", "--json"),
        ("ask", "x", question, "--model", "model"),
        ("ask", "x", question, "--model", "model", "--json", "--group", "it"),
        ("index", "remove", "x", "pay.m"),
        ("index", "restore", "x", 1, "--json"),
        ("index", "update", "x", "--json"),
    )
    for words in hidden:
        _, out, err = luthier(capsys, *words)
        assert "4200" not in out + err and "Secret" not in out + err, words
    for words in (hidden[0], hidden[7]):
        _, out, _ = luthier(capsys, *words, "--group", "hr")
        assert "4200" in out or "Secret" in out
    listed = json.loads(luthier(capsys, "index", "list", "x", "--json")[1])
    assert [(one["id"], one["access"]) for one in listed] == [
        ("canteen.txt", []),
        ("pay.md", ["hr"]),
    ]


def test_an_older_version_opens_nothing_that_is_closed_now(capsys: Capture, home: Path) -> None:
    assert luthier(capsys, "index", "build", "my docs", "--out", "x")[0] == 0
    open_now = (home / "my docs" / "canteen.txt").read_text()
    (home / "labels").write_text("")
    (home / "my docs" / "plans.md").write_text("Plan zanzibar begins in May.")
    assert luthier(capsys, "index", "update", "x")[0] == 0
    assert "zanzibar" in luthier(capsys, "index", "search", "x", "plan")[1]
    (home / "my docs" / "plans.md").write_text(
        "---\naccess: [board]\n---\nPlan zanzibar begins in May."
    )
    assert luthier(capsys, "index", "update", "x")[0] == 0
    for mode in ("hybrid", "bm25", "vectors", "rrf"):
        words = ("index", "search", "x", "plan zanzibar", "--version", 2, "--mode", mode)
        assert "zanzibar" not in luthier(capsys, *words)[1]
        assert "zanzibar" in luthier(capsys, *words, "--group", "board")[1]
    code, _, err = luthier(capsys, "index", "restore", "x", 2)
    assert code == 2 and "plans.md" in err and "--reopen" in err and "zanzibar" not in err
    assert "zanzibar" not in luthier(capsys, "index", "search", "x", "plan zanzibar")[1]
    assert luthier(capsys, "index", "restore", "x", 1)[0] == 0  # it is not in that one
    assert luthier(capsys, "index", "restore", "x", 3)[0] == 0
    assert "zanzibar" not in luthier(capsys, "index", "search", "x", "plan zanzibar")[1]
    assert luthier(capsys, "index", "restore", "x", 2, "--reopen")[0] == 0
    assert "zanzibar" in luthier(capsys, "index", "search", "x", "plan zanzibar")[1]
    # what is open still is found there
    assert open_now[:20] in luthier(capsys, "index", "search", "x", "canteen", "--version", 1)[1]


@pytest.mark.parametrize("gone", ["restored before it", "removed"])
def test_what_was_closed_stays_closed_where_the_newest_version_lacks_it(
    capsys: Capture, home: Path, gone: str
) -> None:
    assert luthier(capsys, "index", "build", "my docs", "--out", "x")[0] == 0
    plans = home / "my docs" / "plans.md"
    plans.write_text("Plan zanzibar begins in May.")
    assert luthier(capsys, "index", "update", "x")[0] == 0  # version 2: open
    plans.write_text("---\naccess: [board]\n---\nPlan zanzibar begins in May.")
    assert luthier(capsys, "index", "update", "x")[0] == 0  # version 3: closed
    take_out = ("restore", "x", 1) if gone == "restored before it" else ("remove", "x", "plans.md")
    assert luthier(capsys, "index", *take_out)[0] == 0  # version 4: without it
    for mode in ("hybrid", "bm25", "vectors", "rrf"):
        words = ("index", "search", "x", "plan zanzibar", "--version", 2, "--mode", mode)
        assert "zanzibar" not in luthier(capsys, *words)[1]
        assert "zanzibar" in luthier(capsys, *words, "--group", "board")[1]
    code, _, err = luthier(capsys, "index", "restore", "x", 2)
    assert code == 2 and "plans.md" in err and "--reopen" in err
    assert luthier(capsys, "index", "restore", "x", 3)[0] == 0  # closed as it was: no question
    assert luthier(capsys, "index", "remove", "x", "plans.md")[0] == 0
    assert luthier(capsys, "index", "restore", "x", 2, "--reopen")[0] == 0
    assert "zanzibar" in luthier(capsys, "index", "search", "x", "plan zanzibar")[1]
    # opened again with intent, it is open in the version where it was
    assert luthier(capsys, "index", "restore", "x", 1)[0] == 0
    assert "zanzibar" in luthier(capsys, "index", "search", "x", "plan", "--version", 2)[1]
    assert luthier(capsys, "index", "restore", "x", 2)[0] == 0


@pytest.mark.parametrize("other", ["my docs/hr", "."])
def test_an_update_does_not_rename_what_labels_close(
    capsys: Capture, home: Path, other: str
) -> None:
    (home / "my docs" / "hr").mkdir()
    (home / "my docs" / "hr" / "raise.txt").write_text("The director earns 900 coins.")
    (home / "labels.yaml").write_text('"hr/*": {access: [hr]}\n')
    words = ("index", "build", "my docs", "--labels", "labels.yaml", "--out", "x")
    assert luthier(capsys, *words)[0] == 0
    before = (home / "x" / "index.json").read_bytes()
    code, _, err = luthier(capsys, "index", "update", "x", other)
    assert code == 2 and "who may read them would change" in err
    assert (home / "x" / "index.json").read_bytes() == before
    assert "director" not in luthier(capsys, "index", "search", "x", "director earns")[1]
    # the same source again is no other one
    assert luthier(capsys, "index", "update", "x", "my docs")[0] == 0
    assert "director" not in luthier(capsys, "index", "search", "x", "director earns")[1]
    assert (
        "director" in luthier(capsys, "index", "search", "x", "director earns", "--group", "hr")[1]
    )
