"""The list of actions: what is accepted, what is refused and where, and in which order it is done."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
import sys
import threading
import tracemalloc
from contextlib import closing
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recall_async import ConfigurationError, RemoveBot, ScheduleBot
from recall_async.cli.actions_file import ActionsFile

A, B, C = (str(UUID(int=n, version=4)) for n in (10, 11, 12))
HEADER = "action,event_id,deduplication_key,bot_config,start_time\n"


@pytest.fixture
def read(tmp_path: Path):
    """Writes a file, and gives its complaints and actions."""

    def write_and_read(content: str | bytes, name: str = "a.jsonl", default: dict | None = None):
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        file = ActionsFile(str(path), default or {})
        complaints = [text.removeprefix(f"{tmp_path}/") for text in file.check()]
        actions = [] if complaints else list(file)
        file.close()
        return complaints, actions

    return write_and_read


def line(action: str = "schedule", event_id: str = A, **fields: object) -> str:
    """A line of JSON that is all right."""
    key = {"deduplication_key": "k"} if action == "schedule" else {}
    return json.dumps({"action": action, "event_id": event_id, **key, **fields}) + "\n"


def test_json_lines(read) -> None:
    """A field would be lost on its way from the file to the action."""
    start, end = "2030-01-01T10:00:00Z", "2030-01-01T11:00:00Z"
    complaints, actions = read(line(bot_config={"a": [1]}, start_time=start, end_time=end) + "\n" + line("remove", B))
    assert complaints == []
    assert actions == [ScheduleBot(A, "k", {"a": [1]}, start, end), RemoveBot(B)]


def test_csv(read) -> None:
    """A spreadsheet's quotes, line breaks in cells, empty cells or blank rows would change or shift what is done."""
    rows = f'schedule,{A},"a ""key"", with\nline",{{}},2030-01-01T10:00:00Z\n,,,,\nremove,{B},,,\n'
    complaints, actions = read(HEADER + rows + f'schedule,{C},k,"{{""b"": 1}}",\n', "a.csv", {"default": 1})
    assert complaints == []
    assert actions == [
        ScheduleBot(A, 'a "key", with\nline', {}, "2030-01-01T10:00:00Z"),
        RemoveBot(B),
        ScheduleBot(C, "k", {"b": 1}),
    ]


@pytest.mark.parametrize("break_", ["\n", "\r\n"])
@pytest.mark.parametrize("bom", ["", "\ufeff"])
def test_bom_and_windows_line_breaks(read, bom: str, break_: str) -> None:
    """Files from Windows would be refused."""
    csv = (HEADER + f"schedule,{A},k,,\nremove,{B},,,\n").replace("\n", break_)
    jsonl = (line() + line("remove", B)).replace("\n", break_).rstrip()
    expected = ([], [ScheduleBot(A, "k"), RemoveBot(B)])
    assert read(bom + csv, "a.csv") == expected
    assert read(bom + csv, "a.txt") == expected
    assert read(bom + jsonl) == expected
    assert read(bom + jsonl, "a.txt") == expected


def test_default_config_is_for_those_without_one(read) -> None:
    """--bot-config would replace what a line says, or not reach the others."""
    _, actions = read(line() + line(bot_config=None) + line(bot_config={}), default={"d": 1})
    assert [action.bot_config for action in actions] == [{"d": 1}, {"d": 1}, {}]


def test_soonest_first_but_never_across_one_event(read) -> None:
    """Late meetings would get their bots first; or a removal that comes after scheduling would be done before it."""
    early, late = "2030-01-01T00:00:00+02:00", "2029-12-31T23:00:00Z"
    text = line(event_id=C) + line(event_id=B, start_time=late) + line("remove", A) + line(start_time=early)
    _, actions = read(text)
    assert actions == [RemoveBot(A), ScheduleBot(A, "k", {}, early), ScheduleBot(B, "k", {}, late), ScheduleBot(C, "k")]


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ("{", "invalid JSON: unexpected end of input"),
        ("[]", "each line must be a JSON object"),
        ("\x00", "invalid JSON"),
        ("[" * 100_000, "invalid JSON"),
        (line(event_id="x"), "event_id must be a UUID, got 'x'"),
        (line(event_id=5), "event_id must be a UUID, got 5"),
        (line(event_id=None), "event_id is missing"),
        (line("cancel", deduplication_key="k"), "action must be schedule or remove, got 'cancel'"),
        (line(action=["schedule"], deduplication_key="k"), "action must be schedule or remove, got ['schedule']"),
        (line(deduplication_key=None), "deduplication_key is missing"),
        (line(deduplication_key=""), "deduplication_key must not be empty"),
        (line(deduplication_key="k" * 2001), "deduplication_key must have at most 2000 characters, got 2001"),
        (line(bot_config="{}"), "bot_config must be a JSON object, got '{}'"),
        (line(bot_config=[]), "bot_config must be a JSON object, got []"),
        (line(start_time="tomorrow"), "start_time must be a time such as 2025-06-10T18:54:18Z, got 'tomorrow'"),
        (line(start_time="2030-01-01T00:00:00"), "start_time "),
        (line(end_time=7), "end_time must be a time such as"),
        (line(dedupe_key="k"), "unknown field 'dedupe_key'; there are action, event_id, deduplication_key"),
        (b"{\"action\": \"\xff\"}", "invalid JSON"),
    ],
)  # fmt: skip
def test_wrong_lines(read, wrong: str | bytes, complaint: str) -> None:
    """A wrong line would be sent, left out, or reported without saying where it is and what is wrong."""
    wrong = wrong if isinstance(wrong, bytes) else wrong.encode()
    complaints, _ = read(line().encode() + b"\n" + wrong.rstrip() + b"\n" + line().encode())
    assert len(complaints) == 1
    assert complaints[0].startswith(f"a.jsonl:3: {complaint}")
    assert len(complaints[0]) < 250


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (HEADER + f"schedule,{A},k,,\nschedule,{B},k,,,extra\n", "3: the row has 6 cells, and the header 5"),
        (HEADER + f"schedule,{A},k,{{,\n", "2: bot_config: invalid JSON"),
        (HEADER + f"schedule,{A},k,[],\n", "2: bot_config must be a JSON object, got []"),
        (HEADER + f'schedule,{A},"two\nlines",,\nremove,x,,,\n', "4: event_id must be a UUID, got 'x'"),
        (HEADER + f'schedule,{A},"open,,\n', "2: invalid CSV: unexpected end of data"),
        ("action;event_id|key\n", "1: unknown column 'event_id|key'; there are action, event_id, deduplication_key"),
        ("action,event_id,event_id\n", "1: column event_id is there twice"),
        ("event_id\n", "1: column action is missing"),
    ],
)
def test_wrong_csv(read, text: str, complaint: str) -> None:
    """A shifted cell would be taken for another column, or a complaint would name the wrong line."""
    assert read(text, "a.csv")[0][0].startswith(f"a.csv:{complaint}")


def test_csv_in_another_encoding(read) -> None:
    """A file in Latin-1 or UTF-16 would end in a traceback, or in keys of garbage."""
    for content in (HEADER.encode() + f"schedule,{A},caf\xe9,,\n".encode("latin-1"), HEADER.encode("utf-16")):
        complaints, _ = read(content, "a.csv")
        assert "UTF-8" in complaints[0]


def test_all_errors_of_a_line_and_of_the_file(read) -> None:
    """Errors would have to be found and mended one run at a time."""
    complaints, _ = read('{"action": "x", "event_id": "y", "z": 1}\n' * 2)
    assert [re.split(";| is | must ", text)[0] for text in complaints] == [
        f"a.jsonl:{number}: {field}"
        for number in (1, 2)
        for field in ("unknown field 'z'", "action", "event_id", "deduplication_key")
    ]


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff"])
def test_nothing_to_do(read, content: str) -> None:
    """A query that found nothing would make the job fail."""
    assert read(content) == read(content, "a.csv") == read(content, "a.txt") == ([], [])


def test_file_that_changes_while_it_is_read(tmp_path: Path) -> None:
    """An editor that saves during the job would make it do something that was never checked."""
    path = tmp_path / "a.jsonl"
    path.write_text(line() + line(event_id=B))
    file = ActionsFile(str(path), {})
    assert list(file.check()) == []
    path.write_text("#" * 500)
    with pytest.raises(ConfigurationError, match="was changed while the job was at work"):
        list(file)
    file.close()


def test_standard_input_and_pipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What can be read only once could not be checked before it is done."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(line().encode())))
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Thread(target=lambda: (tmp_path / "fifo").write_text(line()))
    writer.start()
    for path in ("-", str(tmp_path / "fifo")):
        file = ActionsFile(path, {})
        assert list(file.check()) == []
        assert list(file) == [ScheduleBot(A, "k")]
        file.close()
    writer.join()


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode), st.sampled_from(["a.csv", "a.jsonl", "a.txt"]))
def test_garbage_never_gets_through(read, content: bytes, name: str) -> None:
    """Garbage would end in a traceback."""
    complaints, actions = read(content, name)
    assert actions == []
    assert all(text.startswith(f"{name}:") for text in complaints)


def test_a_long_file_takes_little_memory(tmp_path: Path) -> None:
    """A job of a million actions would need gigabytes: 5,000 lines of 800 bytes must fit into a fraction of their size."""
    path = tmp_path / "long.jsonl"
    with path.open("w") as file:
        file.writelines(line(event_id=str(UUID(int=n)), bot_config={"bot_name": "x" * 700}) for n in range(5_000))
    actions = ActionsFile(str(path), {})
    tracemalloc.start()
    try:
        assert list(actions.check()) == []
        assert sum(1 for _ in actions) == 5_000
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
        actions.close()


@pytest.mark.parametrize(
    "text",
    [
        HEADER.replace(",", ";") + f"schedule;{A};k;;\n",
        HEADER.replace(",", "\t") + f"schedule\t{A}\tk\t\t\n",
        "sep=;\r\n" + HEADER.replace(",", ";").replace("\n", "\r\n") + f"schedule;{A};k;;\r\n",
        HEADER.replace("\n", ",,\n") + f"schedule,{A},k,,,,\n",
    ],
)
def test_csv_of_excel(read, text: str) -> None:
    """A list that was saved in Excel would be refused, for reasons that its author cannot see there."""
    for bom in ("", "\ufeff"):
        complaints, actions = read(bom + text, "a.csv")
        assert complaints == []
        assert actions == [ScheduleBot(A, "k", {})]


def test_csv_in_utf_16_and_naive_times(read) -> None:
    """The advice would be about Python, or about a byte that nobody sees."""
    complaints, _ = read((HEADER + f"schedule,{A},k,,\n").encode("utf-16"), "a.csv")
    assert complaints == ["a.csv:1: this is text in UTF-16 or UTF-32: save it in UTF-8 (in Excel: CSV UTF-8)"]
    complaints, _ = read(HEADER + f"schedule,{A},k,,2030-01-01T10:00:00\n", "a.csv")
    assert "must have a time zone" in complaints[0]
    assert "2025-06-10T18:54:18Z" in complaints[0]
    assert "datetime" not in complaints[0]


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a"])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        *((HEADER.encode(encoding), "in UTF-16") for encoding in ("utf-16", "utf-16-le", "utf-16-be", "utf-32")),
        (b"PK\x03\x04\x14\0\x06\0", "workbook"),
        (gzip.compress(HEADER.encode(), mtime=0), "compressed"),
    ],
    ids=["UTF-16", "UTF-16 LE", "UTF-16 BE", "UTF-32", "workbook", "gzip"],
)
def test_what_is_no_text(read, name: str, content: bytes, said: str) -> None:
    """The user would be told of columns with zeros in them, or of an invalid character at byte 0."""
    complaints, _ = read(content, name)
    assert len(complaints) == 1
    assert said in complaints[0]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", HEADER.replace(",", "|"), "separated by '|'"),
        ("a.csv", HEADER.replace(",", ":"), "separated by ':'"),
        ("a.csv", (HEADER + f"schedule,{A},k,,\n").replace("\n", "\r"), "carriage return"),
        (
            "a.jsonl",
            f'{{"action": "remove", "event_id": "{A}"}}\r{{"action": "remove", "event_id": "{A}"}}\r',
            "carriage return",
        ),
    ],
    ids=["bar", "colon", "CSV with CR", "JSON lines with CR"],
)
def test_other_delimiters_and_line_ends(read, name: str, text: str, said: str) -> None:
    """The user would be told of an unknown column that is the whole line, or to open a file in a mode of Python's."""
    complaints, _ = read(text, name)
    assert len(complaints) == 1
    assert said in complaints[0]


def test_pictures_fit_into_a_cell(read) -> None:
    """A bot_config with a camera image would be refused because of a limit of Python's."""
    config = json.dumps({"image": "x" * 1_300_000}).replace('"', '""')
    complaints, actions = read(HEADER + f'schedule,{A},k,"{config}",\n', "a.csv")
    assert complaints == []
    assert len(actions[0].bot_config["image"]) == 1_300_000


@pytest.mark.parametrize("text", ['"event_id": "{A}", "event_id": "{B}"', '"bot_config": {{"a": 1, "a": 2}}'])
def test_a_name_twice_in_one_object(read, text: str) -> None:
    """One of two values would be taken without a word."""
    fields = text.format(A=A, B=B)
    complaints, _ = read(f'{{"action": "remove", {fields}}}\n')
    assert "stands twice" in complaints[0]


def test_a_name_twice_in_a_cell(read) -> None:
    """One of two values in a cell of CSV would be taken without a word."""
    complaints, _ = read(HEADER + f'schedule,{A},k,"{{""a"": {{""b"": 1, ""b"": 2}}}}",\n', "a.csv")
    assert "bot_config: 'b' stands twice" in complaints[0]


def test_file_that_is_sorted_while_it_is_read(tmp_path: Path) -> None:
    """Some actions would be done twice, and others never, while the job says that all are done."""
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"action": "remove", "event_id": str(UUID(int=n, version=4))}) for n in range(50)]
    path.write_text("\n".join(lines) + "\n")
    file = ActionsFile(str(path), {})
    assert list(file.check()) == []
    actions = iter(file)
    next(actions)
    with path.open("r+") as rewritten:
        rewritten.write("\n".join(lines[::-1]) + "\n")
    with pytest.raises(ConfigurationError, match="was changed while the job was at work"):
        list(actions)
    file.close()


def test_file_that_is_replaced_while_it_is_read(tmp_path: Path) -> None:
    """A list that was saved by an editor, which replaces the file, would be ignored without a word."""
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f'{{"action": "remove", "event_id": "{event}"}}\n' for event in (A, B)))
    with closing(ActionsFile(str(path), {})) as file:
        assert list(file.check()) == []
        actions = iter(file)
        next(actions)
        path.rename(tmp_path / "b")
        next(iter(file))  # it may be deleted
        path.write_text("")
        with pytest.raises(ConfigurationError, match="replaced by another file"):
            next(actions)


def test_file_that_is_sorted_within_one_tick_of_its_time(tmp_path: Path) -> None:
    """A change that neither the size nor the time shows would do some actions twice, and others never."""
    path = tmp_path / "a.jsonl"
    lines = [json.dumps({"action": "remove", "event_id": str(UUID(int=n, version=4))}) for n in range(2)]
    path.write_text("\n".join(lines) + "\n")
    with closing(ActionsFile(str(path), {})) as file:
        assert list(file.check()) == []
        before = path.stat()
        with path.open("r+") as rewritten:
            rewritten.write("\n".join(lines[::-1]) + "\n")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ConfigurationError, match="another action stands where one was"):
            list(file)
