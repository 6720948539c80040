"""The house rules that a program can check: what may import what, what must be documented."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import recall_async

PACKAGE = Path(recall_async.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
)
PURE = [
    "models", "bot_models", "platforms", "lenient", "secrecy", "errors", "checks", "operations", "address",
    "answers", "advice", "events", "retry", "webhooks", "sync.plan",
    "limits.window", "limits.promise", "limits.pace", "limits.queue", "limits.quota",
]  # fmt: skip
FLOORS = [
    {"lenient", "page_end", "secrecy", "version", "stopping", "replacing"},
    {"platforms", "errors"},
    {"models", "checks"},
    {"bot_models", "reading", "callbacks"},
    {"operations"},
    {"answers", "webhooks", "address"},
    {"advice", "events"},
    {"retry", "limits", "settings"},
    {"outage", "connections", "no_response", "call"},
    {"sending", "workspace", "passage"},
    {"transport"},
    {"reporting"},
    {"attempts"},
    {"caller"},
    {"resources"},
    {"bulk"},
    {"sync"},
    {"session", "otel"},
    {"jobs"},
    {""},
    {"cli"},
    {"__main__"},
]
"""What stands on what, from the ground up; a room may import what is below it, and itself. The package is `""`."""
SANDBOX_MAY_IMPORT = {"recall_async.models", "recall_async.operations"}


@cache
def imports(module: str) -> frozenset[str]:
    """Every module that this one imports, anywhere in its file."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    package = module if path.is_dir() else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            inner = {f"{base}.{alias.name}" for alias in node.names} & set(MODULES)
            named_only_modules = len(inner) == len(node.names)
            found |= inner if named_only_modules else inner | {base}
    return frozenset(found)


def ours(module: str) -> set[str]:
    return set(imports(module)) & set(MODULES)


def room(module: str) -> str:
    return module.partition(".")[2].partition(".")[0]


def floor(module: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


def test_imports_are_found() -> None:
    """Would make the tests below pass because they see nothing."""
    assert {"asyncio", "aiohttp", "recall_async.errors"} <= imports("recall_async.transport") | {"asyncio"}
    assert {"recall_async.caller", "recall_async.models"} <= imports("recall_async.resources.calendar_events")
    assert {"recall_async.errors", "recall_async.session"} <= imports("recall_async")
    assert len(MODULES) > 30


@pytest.mark.parametrize("name", PURE)
def test_pure_modules_are_pure(name: str) -> None:
    """Would tie a decision to a clock, a loop or a socket, by itself or through what it imports."""
    seen: set[str] = set()
    ahead = [f"recall_async.{name}"]
    while ahead:
        module = ahead.pop()
        seen.add(module)
        impure = {top.partition(".")[0] for top in imports(module)} & {"asyncio", "aiohttp", "aiolimiter", "redis"}
        assert not impure, f"{module}, which recall_async.{name} stands on, imports {impure}"
        ahead += ours(module) - seen - {"recall_async"}


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) != "sandbox"])
def test_imports_point_down(module: str) -> None:
    """Would let a room depend on one that stands on it, hence no part be understood without all others."""
    for imported in ours(module):
        if room(imported) == "sandbox":
            assert room(module) in ("cli", ""), f"{module} imports {imported}: only the command line starts a sandbox"
        elif room(imported) != room(module):
            assert floor(imported) < floor(module), f"{module} imports {imported}, which does not stand below it"


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) == "sandbox"])
def test_sandbox_shares_no_logic_with_the_client(module: str) -> None:
    """Would make the sandbox right wherever the client is wrong, so that it proves nothing."""
    outside = {imported for imported in ours(module) if room(imported) != "sandbox"}
    if module.endswith(".pytest_plugin"):  # which serves tests of the client, and answers no request
        outside -= {"recall_async.limits.local.store"}
    assert outside <= SANDBOX_MAY_IMPORT


@pytest.mark.parametrize("module", [module for module in MODULES if room(module) not in ("cli", "__main__")])
def test_nothing_imports_the_command_line(module: str) -> None:
    """Would make the library need click and rich."""
    assert not {imported for imported in imports(module) if imported.partition(".")[0] in ("click", "rich")}
    assert not {imported for imported in ours(module) if room(imported) == "cli"}


def test_imports_do_not_go_round() -> None:
    """Would make it matter which module is imported first."""
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path[path.index(module) :], module))
        if module not in done:
            for imported in sorted(ours(module) - {"recall_async"}):
                visit(imported, (*path, module))
            done.add(module)

    for module in MODULES:
        visit(module, ())


EACH_FIRST = """
import sys, types, importlib
import recall_async
where = recall_async.__path__
for module in sys.argv[1:]:
    for known in [name for name in sys.modules if name.partition(".")[0] == "recall_async"]:
        del sys.modules[known]
    sys.modules["recall_async"] = package = types.ModuleType("recall_async")
    package.__path__ = where
    importlib.import_module(module)
"""


@pytest.mark.slow
def test_each_module_can_be_the_first() -> None:
    """Would fail to import a module unless another one was imported before."""
    modules = [module for module in MODULES if module not in ("recall_async", "recall_async.__main__")]
    ran = subprocess.run([sys.executable, "-c", EACH_FIRST, *modules], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_the_library_needs_no_extra() -> None:
    """Would fail to import for who installs the library alone."""
    for module in MODULES:
        if room(module) not in ("cli", "__main__") and not module.startswith(
            (
                "recall_async.limits.redis",
                "recall_async.jobs",
                "recall_async.sandbox.pytest_plugin",
                "recall_async.otel",
            )
        ):
            tops = {imported.partition(".")[0] for imported in imports(module)} - set(sys.stdlib_module_names)
            assert tops <= {"recall_async", "aiohttp", "aiolimiter", "msgspec", "multidict", "yarl", "uvloop"}, module


@pytest.mark.parametrize("module", MODULES)
def test_files_say_what_they_are_for(module: str) -> None:
    """Would let a file stand without saying what it is for, or under a name for everything that has no place."""
    path = PACKAGE.parent.joinpath(*module.split("."))
    text = (path / "__init__.py" if path.is_dir() else path.with_suffix(".py")).read_text()
    assert ast.get_docstring(ast.parse(text))
    assert not {"utils", "helpers", "manager", "common"} & set(module.split("."))


@pytest.mark.parametrize("name", recall_async.__all__)
def test_public_names_are_documented(name: str) -> None:
    """Would leave a user without the first line of help on something that can be called."""
    public = getattr(recall_async, name)
    assert inspect.getdoc(public), name
    if inspect.isclass(public):
        # A method that implements a protocol is documented there.
        known = vars(sys.modules[public.__module__]).values()
        protocols = [kind for kind in known if getattr(kind, "_is_protocol", False)]
        for member, value in vars(public).items():
            if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                said = [value, *(vars(protocol).get(member) for protocol in protocols)]
                assert any(part.__doc__ for part in said if part is not None), f"{name}.{member}"
