"""The sandbox in the foreground, and the table of quotas."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request

import pytest

from recall_async.operations import OPERATIONS


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_it_is_stopped(start, run, number: signal.Signals) -> None:
    """It would not tell where it listens once it does, or end with an error when it is told to stop."""
    process = start(
        "sandbox", "--port", "0", "--events", "30", "--seed", "3", "--api-key", "a key's", "--quota-scale", "2"
    )
    told = ""
    while "Ctrl-C" not in told:
        text = process.stdout.readline()
        assert text, process.stderr.read()
        told += text
    assert "RECALL_API_KEY='a key'\"'\"'s'" in told
    url = told.split("RECALL_BASE_URL=")[1].split()[0]
    with urllib.request.urlopen(f"{url}/_sandbox/report") as answer:
        assert json.load(answer)["events"] == 30
    process.send_signal(number)
    assert process.wait(timeout=20) == 0
    assert "0 requests" in process.stderr.read()


def test_json(start) -> None:
    """A script that starts a sandbox would have to pick its address out of prose."""
    process = start("sandbox", "--port", "0", "--events", "5", "--json")
    document = json.loads(process.stdout.readline())
    assert document["api_key"] == "sandbox-key"
    with urllib.request.urlopen(f"{document['url']}/_sandbox/report") as answer:
        assert json.load(answer)["events"] == 5


def test_port_in_use(run) -> None:
    """Two sandboxes on one port would end in a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run("sandbox", "--port", port)
    assert result.exit_code == 2
    assert f"cannot listen on 127.0.0.1 port {port}: the port is taken" in result.stderr


@pytest.mark.parametrize(
    "arguments", [("--quota-scale", "0"), ("--quota-scale", "nan"), ("--calendars", "0"), ("--port", "65536")]
)
def test_impossible_settings(run, arguments: tuple[str, ...]) -> None:
    """An impossible setting would show as a traceback, or as a server that refuses everything."""
    assert run("sandbox", *arguments).exit_code == 2


def test_quota_table(run) -> None:
    """The table would leave out an operation, or say another quota than the client keeps to."""
    document = json.loads(run("quota", "--json").stdout)
    assert {name: row["limit"] for name, row in document.items()} == {
        name: row.limit for name, row in OPERATIONS.items()
    }
    shown = run("quota").stdout
    assert all(f"{name:<29}{row.limit:>6}" in shown for name, row in OPERATIONS.items())
