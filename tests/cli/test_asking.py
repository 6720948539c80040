"""What is typed at a question: with a pipe in place of the terminal."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

import click
import pytest

from recall_async.cli.asking import confirm


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch):
    """Types lines, and ends the input."""
    pipes = []

    def type_in(*lines: str) -> None:
        reader, writer = os.pipe()
        stdin = os.fdopen(reader)
        pipes.append(stdin)
        monkeypatch.setattr(sys, "stdin", stdin)
        os.write(writer, "".join(lines).encode())
        os.close(writer)

    yield type_in
    for pipe in pipes:
        pipe.close()


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be watched there")
@pytest.mark.parametrize(
    ("line", "answer"), [("y\n", True), ("Yes \n", True), ("n\n", False), ("NO\n", False), ("\n", False)]
)
def test_answers(typed, line: str, answer: bool) -> None:
    """Would remove bots that somebody wanted to keep, or take a yes for a no."""
    typed(line)
    assert asyncio.run(confirm("Remove them?")) is answer


@pytest.mark.skipif(sys.platform == "win32", reason="pipes cannot be watched there")
def test_what_is_no_answer(typed, capsys: pytest.CaptureFixture[str]) -> None:
    """Would take any word for an answer, or ask a closed terminal again and again."""
    typed("perhaps\n")
    with pytest.raises(click.Abort):
        asyncio.run(confirm("Remove them?"))
    assert capsys.readouterr().err == "Remove them? [y/N]: Error: answer y or n\nRemove them? [y/N]: "


@pytest.mark.parametrize(("answers", "answer"), [(["y"], True), (["what", "n"], False)])
def test_a_loop_that_cannot_watch_a_file_asks_all_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, answers: list[str], answer: bool
) -> None:
    """Would fail at each question on Windows, whose event loop watches no files."""
    left = iter(answers)

    def refuses(*_: object) -> None:
        raise NotImplementedError

    async def main() -> bool:
        monkeypatch.setattr(asyncio.get_running_loop(), "add_reader", refuses, raising=False)
        return await confirm("Remove them?")

    monkeypatch.setattr("builtins.input", lambda: next(left))
    with (tmp_path / "stdin").open("w+") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        assert asyncio.run(main()) is answer

        def ended() -> str:
            raise EOFError

        monkeypatch.setattr("builtins.input", ended)
        with pytest.raises(click.Abort):
            asyncio.run(main())
