"""Make the command that continues a job, in a form that works when it is pasted into a shell: without passwords."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import sys
from pathlib import Path

import click
from click.core import ParameterSource

from ..secrecy import MASK
from .command import ConnectionOption

ENVIRONMENT = {
    "RECALL_BASE_URL": "--base-url",
    "RECALL_REGION": "--region",
    "RECALL_WORKSPACE": "--workspace",
}
"""Variables that describe the connection, and the equivalent options. None is a secret."""
_PASSWORD = re.compile(r"(?<=://)([^/?#@:]*:)[^/?#]*(?=@)|(?<=[?&]password=)[^&#]*")
"""The password in a URL, which does not belong into the logs of a job that was interrupted."""


def program() -> str:
    """Return this program as a shell finds it from any directory."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return f"{shlex.quote(sys.executable)} -m recall_async"
    found = str(called) if called.parent != Path() and called.exists() else shutil.which(called.name)
    return shlex.quote(os.path.abspath(found) if found else called.name)


def resume_command(ctx: click.Context) -> str:
    """Return the command that was given, with options for the variables that describe the connection."""
    _, *arguments = ctx.find_root().obj
    return _pasted(ctx, arguments)


def following_command(ctx: click.Context, name: str, *arguments: str) -> str:
    """Return the command `name` with `arguments`, on the same connection as the command that was given."""
    words = [name, *arguments]
    for parameter in ctx.command.params:
        source = None if parameter.name is None else ctx.get_parameter_source(parameter.name)
        if isinstance(parameter, ConnectionOption) and source is ParameterSource.COMMANDLINE:
            value = ctx.params[str(parameter.name)]
            if parameter.count:
                words += [parameter.opts[0]] * value
            else:
                words += parameter.opts[-1:] if parameter.is_flag else [parameter.opts[-1], str(value)]
    return _pasted(ctx, words)


def _pasted(ctx: click.Context, arguments: list[str]) -> str:
    options = {option for parameter in ctx.command.params for option in parameter.opts}
    words = {word.partition("=")[0] for word in arguments}
    told_where = bool(words & {"--base-url", "--region"})
    for variable, option in ENVIRONMENT.items():
        value = os.environ.get(variable)
        if not value or option not in options or option in words or (told_where and option != "--workspace"):
            continue
        if option == "--region" and os.environ.get("RECALL_BASE_URL"):
            continue
        arguments += [option, value]
    safe = [_PASSWORD.sub(lambda found: f"{found[1] or ''}{MASK}", word) for word in arguments]
    text = f"{program()} {shlex.join(safe)}" + _input(arguments)
    return text.encode(errors="replace").decode()  # a file's name need not be text


def _input(arguments: list[str]) -> str:
    """Return the redirection of standard input, if it is used and its file is known."""
    if "-" not in arguments or sys.stdin is None:
        return ""
    try:
        if stat.S_ISREG(os.fstat(sys.stdin.fileno()).st_mode):
            return f" < {shlex.quote(os.readlink(f'/proc/self/fd/{sys.stdin.fileno()}'))}"
    except (OSError, ValueError):
        pass
    return "   # with the same input"
