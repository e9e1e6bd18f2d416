"""Chat logs: messages of people in threads, and who answers whom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from luthier.data.chats import threads
from luthier.data.chats.slack_text import readable
from luthier.data.chats.threads import Said, conversations
from luthier.data.format import detect
from luthier.data.reading import Place, SourceRow, read_rows, stream_rows
from luthier.data.refused import Refused
from luthier.errors import InputError

PLACE = Place("log", Path("log"))


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def assistant(text: str) -> dict[str, str]:
    return {"role": "assistant", "content": text}


def written(folder: Path, name: str, text: str) -> str:
    (folder / name).write_text(text, "utf-8")
    return name


def rows(folder: Path, name: str, format: str = "auto") -> list[dict[str, Any]]:
    return [row.values for row in read_rows(name, folder, format=format)]


def failure(folder: Path, name: str, format: str = "auto") -> str:
    with pytest.raises(InputError) as caught:
        read_rows(name, folder, format=format)
    return str(caught.value)


# --- threads


def talk(*said: tuple[str, str, float], thread: str = "") -> list[Said]:
    return [
        Said(author, text, time, f"log line {n}", thread=thread)
        for n, (author, text, time) in enumerate(said, 1)
    ]


def turned(said: list[Said], answerer: str = "") -> list[SourceRow]:
    return list(conversations(iter(said), PLACE, answerer))


def test_messages_of_one_author_are_joined_and_every_answer_is_a_row() -> None:
    made = turned(
        talk(("Ann", "Hello", 0), ("Ann", "Is it open?", 5), ("Bob", "Yes", 9), ("Ann", "Ta", 12))
    )
    assert made == [
        SourceRow(
            {
                "messages": [user("Hello\nIs it open?"), assistant("Yes")],
                "thread": "1970-01-01T00:00:00Z",
                "author": "Bob",
                "time": "1970-01-01T00:00:09Z",
            },
            "log line 3",
        ),
        SourceRow(
            {
                "messages": [user("Yes"), assistant("Ta")],
                "thread": "1970-01-01T00:00:00Z",
                "author": "Ann",
                "time": "1970-01-01T00:00:12Z",
            },
            "log line 4",
        ),
    ]


def test_a_silence_of_an_hour_parts_conversations_and_a_thread_does_not_mind_it() -> None:
    said = (("Ann", "a", 0.0), ("Bob", "b", 3600.0), ("Ann", "c", 7201.0), ("Bob", "d", 7202.0))
    assert [row.values["messages"] for row in turned(talk(*said), "Bob")] == [
        [user("a"), assistant("b")],
        [user("c"), assistant("d")],
    ]
    [first, last] = turned(talk(*said, thread="t"), "bob")
    assert last.values["messages"] == [user("a"), assistant("b"), user("c"), assistant("d")]
    assert first.values["thread"] == last.values["thread"] == "t"


def test_several_who_ask_are_named() -> None:
    [row] = turned(talk(("Ann", "a", 0), ("Cem", "c", 1), ("Bob", "b", 2)), "Bob")
    assert row.values["messages"] == [user("Ann: a\nCem: c"), assistant("b")]


def test_threads_that_cross_are_kept_apart() -> None:
    one = talk(("Ann", "a", 0), ("Bob", "b", 2), thread="1")
    two = talk(("Cem", "c", 1), ("Bob", "d", 3), thread="2")
    made = turned([one[0], two[0], one[1], two[1]])
    assert [(row.values["thread"], row.values["messages"][0]) for row in made] == [
        ("1", user("a")),
        ("2", user("c")),
    ]


def test_long_threads_are_cut_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "MOST_TURNS", 4)
    said = talk(*(("Ann" if n % 2 else "Bob", str(n), float(n)) for n in range(9)))
    assert max(len(row.values["messages"]) for row in turned(said)) == 4
    assert turned(said)[-1].values["messages"] == [
        user("5"), assistant("6"), user("7"), assistant("8"),
    ]  # fmt: skip


def test_somebody_unknown_and_somebody_who_never_answers() -> None:
    said = talk(("Ann", "a", 0), ("Bob", "b", 1))
    with pytest.raises(InputError, match=r"nobody in it is called 'Anne'.*\n?.*Did you mean 'Ann'"):
        turned(said, "Anne")
    with pytest.raises(InputError, match="no message of Ann answers another person's"):
        turned(said, "Ann")
    with pytest.raises(InputError, match="no message in it answers"):
        turned(talk(("Ann", "a", 0), ("Ann", "b", 1)))


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from("ABC"), st.integers(0, 5000), st.sampled_from(["", "t", "u"])),
        max_size=60,
    ),
    st.sampled_from(["", "A"]),
)
def test_rows_are_whole_conversations(said: list[tuple[str, int, str]], answerer: str) -> None:
    time = 0
    messages = []
    for n, (author, wait, thread) in enumerate(said):
        time += wait
        messages.append(Said(author, f"{author}{n}", time, f"line {n}", thread=thread))
    try:
        made = turned(messages, answerer)
    except InputError:
        return
    for row in made:
        roles = [turn["role"] for turn in row.values["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert row.values["messages"][-1]["content"].startswith(row.values["author"])
        assert not answerer or row.values["author"] == answerer
        for turn in row.values["messages"]:
            own = {text[0] for text in turn["content"].split("\n")} == {row.values["author"]}
            assert own == (turn["role"] == "assistant")


# --- Slack


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("<@U1> see <https://a.org/x|the page>", "@Ann see the page (https://a.org/x)"),
        ("<https://www.a.org/|a.org> <https://b.org>", "https://www.a.org/ https://b.org"),
        ("<mailto:a@b.org|a@b.org> <tel:+4411|+4411>", "a@b.org +4411"),
        ("<#C1|general> <!here> <!subteam^S1|@team>", "#general @here @team"),
        ("<!date^1392734382^{date}|Feb 18> <@U9|zoe> <@U8>", "Feb 18 @zoe @U8"),
        ("a &lt;b&gt; &amp;lt; c", "a <b> &lt; c"),
        ("&lt;@U1&gt; if a <b> c", "<@U1> if a <b> c"),
    ],
)
def test_slack_marks_are_made_readable(text: str, meant: str) -> None:
    assert readable(text, {"U1": "Ann"}) == meant


def slack(folder: Path) -> Path:
    export = folder / "export"
    people = [
        {"id": "U1", "name": "ann", "profile": {"display_name": "Ann", "real_name": "Ann A"}},
        {"id": "U2", "name": "bob", "profile": {"display_name": "", "real_name": "Bob B"}},
        {"id": "U3", "name": "bot", "is_bot": True, "profile": {}},
    ]
    days = {
        "general/2024-01-01.json": [
            {"type": "message", "subtype": "channel_join", "user": "U1", "ts": "1704100000.0",
             "text": "<@U1> has joined"},
            {"type": "message", "user": "U1", "ts": "1704100001.000200", "text": "<@U2> ready?",
             "thread_ts": "1704100001.000200"},
            {"type": "message", "user": "U3", "ts": "1704100002.0", "text": "beep"},
            {"type": "message", "bot_id": "B1", "ts": "1704100003.0", "text": "boop"},
            {"type": "message", "user": "U1", "ts": "1704100004.0", "text": "Lunch?"},
        ],
        "general/2024-01-03.json": [
            {"type": "message", "user": "U2", "ts": "1704300000.0", "text": "It is &lt;done&gt;",
             "thread_ts": "1704100001.000200"},
        ],
        "random/2024-01-01.json": [],
    }  # fmt: skip
    for name, content in {"users.json": people, "channels.json": [], **days}.items():
        (export / name).parent.mkdir(parents=True, exist_ok=True)
        (export / name).write_text(json.dumps(content))
    return export


def test_a_slack_export(tmp_path: Path) -> None:
    slack(tmp_path)
    read = read_rows("export", tmp_path)
    assert [(row.values["user"], row.values["text"], row.values["thread"]) for row in read] == [
        ("Ann", "@Bob B ready?", "general 1704100001.000200"),
        ("Ann", "Lunch?", None),
        ("Bob B", "It is <done>", "general 1704100001.000200"),
    ]
    assert read[0].source == "export/general/2024-01-01.json row 2"
    assert detect("export", tmp_path).sentence.startswith("export: read as Slack messages")
    assert read_rows("export", tmp_path, format="slack:bob b") == [
        SourceRow(
            {
                "messages": [user("@Bob B ready?"), assistant("It is <done>")],
                "thread": "general 1704100001.000200",
                "author": "Bob B",
                "time": "2024-01-03T16:40:00Z",
                "channel": "general",
            },
            "export/general/2024-01-03.json row 1",
        )
    ]


def test_a_slack_export_that_is_broken(tmp_path: Path) -> None:
    export = slack(tmp_path)
    day = export / "general" / "2024-01-03.json"
    day.write_text('[7, {"user": "U2", "text": "a", "ts": "soon"}]')
    assert failure(tmp_path, "export", "slack").startswith(
        "export/general/2024-01-03.json row 1 is no object"
    )
    refused = Refused()
    with pytest.raises(InputError):
        list(stream_rows("export", tmp_path, format="slack", refused=refused))
    assert [row.source[-5:] for row in refused.rows] == ["row 1", "row 2"]
    day.write_text('{"a": 1}')
    assert "holds no list" in failure(tmp_path, "export")


def test_nothing_outside_a_slack_export_is_read(tmp_path: Path) -> None:
    export = slack(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "2024-01-01.json").write_text('[{"user":"U1","ts":"1704100000.0","text":"secret"}]')
    (export / "linked").symlink_to(outside, target_is_directory=True)
    (export / "random" / "2024-01-02.json").symlink_to(outside / "2024-01-01.json")
    assert all("secret" not in row.values["text"] for row in read_rows("export", tmp_path))


def test_one_day_of_a_slack_channel_as_it_was_exported(tmp_path: Path) -> None:
    export = slack(tmp_path)
    day = "export/general/2024-01-01.json"
    (export / "general" / "2024-01-01.json").write_text(
        json.dumps(
            [
                {"type": "message", "user": "U1", "ts": "1704100001.0", "text": "A &amp; B?"},
                {
                    "type": "message",
                    "subtype": "channel_leave",
                    "user": "U2",
                    "ts": "1704100002.0",
                    "text": "left",
                },
                {"type": "message", "user": "U2", "ts": "1704100003.0", "text": "B"},
            ]
        )
    )
    assert detect(day, tmp_path).format is not None
    assert [row["messages"] for row in rows(tmp_path, day)] == [[user("A & B?"), assistant("B")]]


def test_slack_as_xml(tmp_path: Path) -> None:
    said = "".join(
        f'<message conversation_id="{thread}"><ts>2018-01-01T10:0{n}:00.000</ts>'
        f"<user>{who}</user><text>{text}</text></message>"
        for n, (thread, who, text) in enumerate(
            [(1, "Ann", "&lt;@Bob&gt; hi"), (2, "Cem", "Who?"), (1, "Bob", "a &amp;gt; b")]
        )
    )
    name = written(tmp_path, "log.xml", f"<slack><team_domain>x</team_domain>{said}</slack>")
    assert rows(tmp_path, name) == [
        {
            "messages": [user("@Bob hi"), assistant("a > b")],
            "thread": "1",
            "author": "Bob",
            "time": "2018-01-01T10:02:00Z",
        }
    ]


# --- WhatsApp

IPHONE = (
    "[31.12.20, 23:58:00] Group: \u200eMessages and calls are end-to-end encrypted.\n"
    "[31.12.20, 23:59:01] Ann: Happy new year\nto all: of you\n"
    "\u200e[31.12.20, 23:59:30] Bob: \u200eimage omitted\n"
    "[31.12.20, 23:59:40] Bob: And to you! \u200e<This message was edited>\n"
)
ANDROID = (
    "12/31/20, 11:58 PM - Messages and calls are end-to-end encrypted. Tap to learn more.\n"
    '12/31/20, 11:58 PM - Ann created group "X"\n'
    "12/31/20, 11:59 PM - Ann: Happy new year\nto all: of you\n"
    "12/31/20, 11:59\u202fPM - Bob: <Media omitted>\n"
    "12/31/20, 11:59 PM - Bob: IMG-1.jpg (file attached)\nAnd to you!\n"
    "12/31/20, 11:59 PM - Cem: This message was deleted\n"
)


@pytest.mark.parametrize(("text", "second"), [(IPHONE, ":40"), (ANDROID, ":00")])
def test_whatsapp_from_both_kinds_of_phones(tmp_path: Path, text: str, second: str) -> None:
    name = written(tmp_path, "chat.txt", text)
    assert detect(name, tmp_path).sentence.startswith("chat.txt: read as a WhatsApp chat")
    [row] = rows(tmp_path, name)
    assert row["messages"] == [user("Happy new year\nto all: of you"), assistant("And to you!")]
    assert (row["author"], row["time"]) == ("Bob", f"2020-12-31T23:59{second}Z")
    assert row["channel"] == "chat.txt"


@pytest.mark.parametrize(
    ("first", "second", "time"),
    [
        ("03/04/2021, 10:00", "13/04/2021, 10:00", "2021-04-13T10:00:00Z"),  # 13 is no month
        ("3/4/21, 10:00 AM", "4/13/21, 10:00 AM", "2021-04-13T10:00:00Z"),
        ("28/01/21, 10:00", "01/02/21, 10:00", "2021-02-01T10:00:00Z"),
        ("02/01/22, 10:00", "01/02/22, 10:00", "2022-02-01T10:00:00Z"),  # else: back in time
        ("01/02/22, 10:00", "02/01/22, 10:00", "2022-02-01T10:00:00Z"),
        ("3/4/21, 10:00 AM", "3/5/21, 10:00 AM", "2021-03-05T10:00:00Z"),  # an American clock
        ("03.04.21, 10:00", "03.05.21, 10:00", "2021-05-03T10:00:00Z"),
        ("2021-04-03, 10:00", "2021-05-03, 10:00", "2021-05-03T10:00:00Z"),
    ],
)
def test_the_order_of_day_and_month_is_told_from_the_file(
    tmp_path: Path, first: str, second: str, time: str
) -> None:
    text = f"{first} - Ann: a\n{second} - Ann: b\n{second} - Bob: c\n"
    [row] = rows(tmp_path, written(tmp_path, "chat.txt", text), "whatsapp")
    assert row["time"] == time
    assert row["messages"] == [user("b"), assistant("c")]


def test_whatsapp_lines_that_are_none_are_refused(tmp_path: Path) -> None:
    text = "A note\n31/12/20, 10:00 - Ann: a\n12/31/20, 10:01 - Ann: b\n31/12/20, 10:02 - Bob: c\n"
    name = written(tmp_path, "chat.txt", text)
    refused = Refused()
    [row] = stream_rows(name, tmp_path, format="whatsapp", refused=refused)
    assert row.values["messages"] == [user("a"), assistant("c")]
    assert [(row.source, row.reason) for row in refused.rows] == [
        ("chat.txt line 1", "chat.txt line 1 stands before the first message with a date. "
         "Remove it."),
        ("chat.txt line 3", "chat.txt line 3 has a date that is none with the day first. "
         "Mend the date."),
    ]  # fmt: skip


# --- IRC

IRSSI = (
    "--- Log opened Mon Jan 01 12:00:00 2018\n"
    "12:00 -!- ann [~ann@host] has joined #luthier\n"
    "12:01 <@ann> which glue <hide>?\n"
    "12:01 < bob> bone\n"
    "12:02  * bob waves\n"
    "23:59 <ann> still there?\n"
    "--- Day changed Tue Jan 02 2018\n"
    "00:01 <+bob> yes\n"
    "--- Log closed Tue Jan 02 00:02:00 2018\n"
)
IRSSI_ROWS = [
    ([user("which glue <hide>?"), assistant("bone\n/me waves")], "2018-01-01T12:01:00Z"),
    ([user("still there?"), assistant("yes")], "2018-01-02T00:01:00Z"),
]


def test_irc_with_days(tmp_path: Path) -> None:
    name = written(tmp_path, "chat.log", IRSSI)
    assert detect(name, tmp_path).sentence.startswith("chat.log: read as an IRC log")
    made = rows(tmp_path, name, "irc:bob")
    assert [(row["messages"], row["time"]) for row in made] == IRSSI_ROWS


@pytest.mark.parametrize(
    "text",
    [
        # ZNC and mIRC
        "[12:00:00] *** Joins: ann (~ann@host)\n[12:00:05] <ann> a\n[12:00:06] <bob> b\n"
        "[12:00:07] * cem has joined #x\n[12:00:08] * ann sets mode: +o cem\n",
        # WeeChat
        "2018-01-01 12:00:00\t-->\tann (~ann@host) has joined #x\n2018-01-01 12:00:05\t@ann\ta\n"
        "2018-01-01 12:00:06\tbob\tb\n2018-01-01 12:00:07\t<--\tann has quit\n",
        # HexChat
        "**** BEGIN LOGGING AT Mon Jan  1 12:00:00 2018\n\nJan 01 12:00:05 *\tNow talking on #x\n"
        "Jan 01 12:00:05 <ann>\ta\nJan 01 12:00:06 <bob>\tb\n",
        "[2018-01-01 12:00:05] <ann> a\n[2018-01-01 12:00:06] <bob> b\n",
        "2018-01-01T12:00:05 <ann> a\n2018-01-01T12:00:06  <bob> b\n",
    ],
)
def test_irc_of_other_programs(tmp_path: Path, text: str) -> None:
    name = written(tmp_path, "chat.log", text)
    assert "IRC" in detect(name, tmp_path).sentence
    [row] = rows(tmp_path, name)
    assert row["messages"] == [user("a"), assistant("b")]
    assert row["time"] in ("2018-01-01T12:00:06Z", "day 1, 12:00:06")


def test_irc_without_days_passes_midnight(tmp_path: Path) -> None:
    text = "23:50 <ann> a\n23:59 <bob> b\n00:05 <ann> c\n08:00 <bob> d\n"
    made = rows(tmp_path, written(tmp_path, "chat.log", text))
    assert [(row["time"], row["author"]) for row in made] == [
        ("day 1, 23:59", "bob"),
        ("day 2, 00:05", "ann"),
    ]


def test_irc_lines_that_are_none_are_refused(tmp_path: Path) -> None:
    name = written(tmp_path, "chat.log", "12:00 <ann> a\nhello\n99:00 <bob> b\n12:01 <bob> c\n")
    refused = Refused()
    assert len(list(stream_rows(name, tmp_path, format="irc", refused=refused))) == 1
    assert [row.source for row in refused.rows] == ["chat.log line 2", "chat.log line 3"]
    assert "chat.log line 2 is no line of an IRC log: 'hello'" in failure(tmp_path, name, "irc")


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=80), st.sampled_from(["irc", "whatsapp"]))
def test_no_text_is_too_strange(text: str, format: str) -> None:
    from luthier.data.format import named
    from luthier.data.reading import Line

    lines = [
        Line({"text": line}, f"t line {number}")
        for number, line in enumerate(["12:00 <a> b", "1/2/20, 10:00 - a: b", *text.split("\n")], 1)
    ]
    try:
        for row in named(format)[0].read(iter(lines), Place("t", Path("t"), Refused()), ""):
            assert row.values["messages"]
    except InputError:
        pass
