"""Base classes of all commands: help in sections, suggestions for mistyped names, errors that name options."""

from __future__ import annotations

import difflib
import os
import re
import shutil
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import click

from ..errors import ConfigurationError
from .text import say, say_error

Decorator: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Gives a command something: an option, an argument, or several."""
CONNECTION = "Connection options"
NARROWEST = 24
"""Columns that the help takes at least."""
_WHOLE = "\u2011"
"""A hyphen at which no line is broken."""
_OTHER_NAMES = {"url": "redis"}
"""Parameters of the library, by the names of their options."""


json_option: Decorator = click.option("--json", "as_json", is_flag=True, help="Print JSON only.")


def _whole(text: str) -> str:
    """Make options of several words whole, so that they can be found and copied."""
    return re.sub(r"--[a-z][a-z-]+", lambda option: option[0].replace("-", _WHOLE), text)


class ConnectionOption(click.Option):
    """An option that most commands have. The help shows these in a section of their own."""


class Formatter(click.HelpFormatter):
    """Help that fits a narrow terminal, without breaks in options. click's own takes 50 columns at least."""

    def __init__(self, indent_increment: int = 2, width: int | None = None, max_width: int | None = None) -> None:
        if width is None:
            width = max(NARROWEST, min(shutil.get_terminal_size().columns, max_width or 80) - 2)
        super().__init__(indent_increment, width, max_width)

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        written = len(self.buffer)
        whole = [(name, _whole(text)) for name, text in rows]
        super().write_dl(whole, col_max if self.width >= 2 * col_max else self.width // 4, col_spacing)
        self._restore_hyphens(written)

    def write_text(self, text: str) -> None:
        written = len(self.buffer)
        super().write_text(_whole(text))
        self._restore_hyphens(written)

    def _restore_hyphens(self, written: int) -> None:
        self.buffer[written:] = [text.replace(_WHOLE, "-") for text in self.buffer[written:]]


class WrittenFile(click.Path):
    """A file that the command writes. It must be none of the other files that the command names."""

    def __init__(self, *, path_type: type[Path] | None = Path, allow_dash: bool = False) -> None:
        super().__init__(dir_okay=False, allow_dash=allow_dash, path_type=path_type)


class Context(click.Context):
    """The context of all commands."""

    formatter_class: type[click.HelpFormatter] = Formatter


class Command(click.Command):
    """A command with its connection options in a section of their own, whose errors name options."""

    context_class: type[click.Context] = Context

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = None if isinstance(parameter, click.Argument) else parameter.get_help_record(ctx)
            if record is not None:
                (shared if isinstance(parameter, ConnectionOption) else own).append(record)
        for title, records in (("Options", own), (CONNECTION, shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        _check_written_files(ctx)
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            raise Misconfigured(_in_words_of(ctx, str(error))) from None


class Misconfigured(click.ClickException):
    """An invalid argument or setting, as the library reported it."""


class Group(click.Group):
    """A group of such commands. It suggests names for a mistyped one."""

    command_class: type[click.Command] | None = Command
    context_class: type[click.Context] = Context

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and not ctx.resilient_parsing and not args[0].startswith("-"):
            names = self.list_commands(ctx)
            if args[0] not in names:
                ctx.fail(f"no such command {args[0]!r}.{suggestion(args[0], names)}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, self._summary_of(ctx, name)) for name in self.list_commands(ctx)])

    def _summary_of(self, ctx: click.Context, name: str) -> str:
        command = self.get_command(ctx, name)
        return "" if command is None else command.get_short_help_str(limit=1000)


class ListByDefault(Group):
    """A group that runs its subcommand `list` if none is given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asks_for_help = args and args[0] in ctx.help_option_names
        if not (ctx.resilient_parsing or asks_for_help) and (not args or args[0].startswith("-")):
            args = ["list", *args]
        return super().parse_args(ctx, args)


def show(error: click.ClickException) -> None:
    """Print the error of a command, below its usage where that was wrong."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
        say(f"Try '{error.ctx.command_path} --help' for help.")
        click.echo("", err=True)
    say_error(error.format_message())


def commands(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield each command below `command` that is not a group, with the words that call it."""
    if not isinstance(command, click.Group):
        yield " ".join(path), command
        return
    ctx = click.Context(command)
    for name in command.list_commands(ctx):
        found = command.get_command(ctx, name)
        assert found is not None
        yield from commands(found, (*path, name))


def suggestion(given: str, names: Iterable[str]) -> str:
    """Return " Did you mean NAME?", or nothing if no name is close."""
    names = list(names)
    close = difflib.get_close_matches(given, names, n=3, cutoff=0.6) or [n for n in names if n.startswith(given)][:3]
    return f" Did you mean {' or '.join(close)}?" if close else ""


def _check_written_files(ctx: click.Context) -> None:
    """Raise `click.UsageError` if a file that the command writes is another of its files, too."""
    seen: dict[object, click.Parameter] = {}
    parameters = sorted(ctx.command.params, key=lambda parameter: isinstance(parameter.type, WrittenFile))
    for parameter in parameters:  # those that are written come last
        value = ctx.params.get(parameter.name or "")
        if not isinstance(parameter.type, click.Path | click.File) or value is None:
            continue
        found = _identity(value, written=isinstance(parameter.type, WrittenFile))
        if found is None:
            continue
        before = seen.setdefault(found, parameter)
        if before is not parameter and isinstance(parameter.type, WrittenFile):
            raise click.UsageError(f"{_shown(before)} and {_shown(parameter)} are the same file", ctx)


def _identity(value: Any, *, written: bool) -> object:
    """Return what identifies a file, an open one or a path; `None` for what is no regular file."""
    try:
        if hasattr(value, "fileno"):
            found = os.fstat(value.fileno())
        elif str(value) == "-":
            if written or sys.stdin is None:
                return None
            found = os.fstat(sys.stdin.fileno())
        else:
            found = os.stat(value)
    except FileNotFoundError:
        return os.path.realpath(value)
    except (OSError, ValueError):
        return None
    return (found.st_dev, found.st_ino) if stat.S_ISREG(found.st_mode) else None


def _shown(parameter: click.Parameter) -> str:
    return parameter.opts[0] if isinstance(parameter, click.Option) else parameter.human_readable_name


def _in_words_of(ctx: click.Context, message: str) -> str:
    """Replace the Python parameter at the beginning of `message` with the option, argument or variable that set it."""
    name = re.match(r"[a-z]\w+(?= )", message)
    for parameter in ctx.command.params:
        if name is not None and parameter.name is not None and _plain(parameter.name) == _plain(name[0]):
            variable = f"RECALL_{_plain(parameter.name).upper()}"
            variables = [each for each in (variable, f"{variable}_URL") if each in os.environ]
            if not ctx.params.get(parameter.name) and variables:
                shown = variables[0]
            else:
                shown = _shown(parameter)
            return shown + message[name.end() :]
    return message


def _plain(name: str) -> str:
    return _OTHER_NAMES.get(name, name).removesuffix("_file")
