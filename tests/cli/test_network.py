"""Proxies and certificate authorities, which reach every command through the connection options."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from recall_async import RetryPolicy

DATA = Path(__file__).parent.parent / "data"
NOWHERE = "http://127.0.0.1:9"


class Server(ThreadingHTTPServer):
    """Answers every request with an empty page, and keeps what was asked for."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        body = b'{"next": null, "previous": null, "results": []}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as started:
        thread = threading.Thread(target=started.serve_forever, args=(0.01,))
        thread.start()
        yield started
        started.shutdown()
        thread.join()


@pytest.fixture
def proxy(server: Server) -> str:
    return f"http://127.0.0.1:{server.server_port}"


def test_requests_go_through_the_proxy(run, server: Server, proxy: str) -> None:
    """--proxy would be accepted and the request sent past it."""
    result = run("events", "--base-url", NOWHERE, "--proxy", proxy)
    assert result.exit_code == 0, result.output
    assert server.asked[0].startswith(f"{NOWHERE}/api/v2/calendar-events/")


def test_a_proxy_that_is_not_there_is_named(run, recall_sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Would say that the API refuses connections, where the proxy does."""
    monkeypatch.setattr(RetryPolicy, "delay", lambda *_: 0.0)
    result = run("events", "--proxy", "http://somebody:secret@127.0.0.1:1")
    assert result.exit_code == 1
    assert "the proxy 127.0.0.1:1 cannot be reached" in result.stderr
    assert result.stderr.endswith("Check the address of the proxy and the network.\n")
    assert "secret" not in result.stderr


@pytest.mark.parametrize(
    "given", ["http://somebody:secret@[::1", "socks5://somebody:secret@127.0.0.1:1", "http://somebody:secret@:1", "//x"]
)
def test_an_invalid_proxy_of_the_environment(run, given: str) -> None:
    """Its password would be shown, or a proxy of another kind be spoken to in HTTP."""
    env = {"HTTP_PROXY": None, "http_proxy": given, "no_proxy": None, "NO_PROXY": None}
    result = run("events", "--trust-env", env=env)
    assert result.exit_code == 2
    assert "HTTP_PROXY: must be a URL such as http://proxy.example:3128" in result.stderr
    assert "secret" not in result.output


def test_a_proxy_of_the_environment_without_a_scheme(run, server: Server, proxy: str) -> None:
    """curl and others accept HOST:PORT in the same variable."""
    env = {"HTTP_PROXY": None, "http_proxy": proxy.removeprefix("http://"), "no_proxy": None, "NO_PROXY": None}
    run("events", "--trust-env", env=env)
    assert server.asked


@pytest.mark.parametrize(
    ("arguments", "env", "through"),
    [
        (["--trust-env"], {}, True),
        (["--trust-env"], {"NO_PROXY": "127.0.0.1"}, False),
        ([], {}, False),
    ],
)
def test_environment_is_obeyed_only_when_told(
    run, server: Server, proxy: str, arguments: list[str], env: dict[str, str], through: bool
) -> None:
    """A proxy that a shell's profile names would get the requests of everybody, or of nobody."""
    run("events", *arguments, env={"HTTP_PROXY": proxy, "http_proxy": proxy, "no_proxy": env.get("NO_PROXY"), **env})
    assert bool(server.asked) is through


def test_netrc_does_not_replace_the_key(run, proxy: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With --trust-env the password in ~/.netrc would be sent in place of the API key."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login somebody password else\n")
    assert run("calendars", "--trust-env", env={"NETRC": str(tmp_path / ".netrc"), "NO_PROXY": "*"}).exit_code == 0


def test_own_certificate_authority(run, server: Server) -> None:
    """A company's own authority could not be trusted, or everybody would be."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(DATA / "localhost.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    url = f"https://localhost:{server.server_port}"
    trusted = run("events", "--base-url", url, "--ca-file", str(DATA / "localhost-ca.pem"))
    assert (trusted.exit_code, len(server.asked)) == (0, 1), trusted.output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--proxy", "socks5://somebody:secret@proxy"], "'--proxy': must be a URL such as http://proxy"),
        (["--proxy", "http://proxy:99999"], "'--proxy': must be a URL"),
        (["--ca-file", __file__], "'--ca-file': cannot use"),
        (["--timeout", "0"], "--timeout"),
        (["--timeout", "90", "--redis", "redis://127.0.0.1"], "--timeout: must be at most 60"),
        (["--redis", "http://somebody:secret@127.0.0.1"], "--redis must begin with redis://"),
        (["--redis", "redis://somebody:secret/more@127.0.0.1"], "--redis must be such as redis://"),
    ],
)
def test_invalid_options(run, arguments: list[str], told: str) -> None:
    """An invalid option would end in a traceback, be ignored, or show a password."""
    result = run("events", *arguments)
    assert result.exit_code == 2
    assert told.replace("'", "") in result.stderr.replace("'", "")
    assert "secret" not in result.output
