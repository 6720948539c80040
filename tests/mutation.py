"""Mutants of a module against tests: one that survives shows what no test checks.

    python -m tests.mutation recall_async/retry.py tests/session/test_retry_table.py [pytest options]

A mutant is one small change of the source: another comparison or operator, a condition negated, a number one more or less,
a statement left out. The tests run in a fork for each mutant, in which the code of the changed function is replaced; for a
change outside of functions the module is imported anew. Hypothesis tries few examples, always the same. Mutants that
compute the same by another way survive, too: read the list. Choose tests that need a second or two.
"""

from __future__ import annotations

import ast
import contextlib
import copy
import gc
import importlib.abc
import importlib.util
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, NamedTuple

import hypothesis
import pytest

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.Mult,
    ast.Pow: ast.Mult,
    ast.BitOr: ast.BitAnd,
    ast.BitAnd: ast.BitOr,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
UNCHANGED = ("isinstance", "issubclass", "cast", "TypeVar")
REWRITING = "ignore::pytest.PytestAssertRewriteWarning"
"""hypothesis is imported before pytest begins."""
SURVIVED, HUNG = 0, -9


class Mutant(NamedTuple):
    """A changed module."""

    text: str
    tree: ast.Module


Change = Callable[[Any], ast.AST | None]
"""Changes a node in place, or returns another one."""


def _typed(tree: ast.Module) -> set[ast.AST]:
    """The nodes that are types or names of types, and decorators: to change them says nothing."""
    found: list[ast.AST | None] = []
    for node in ast.walk(tree):
        found += [getattr(node, "annotation", None), getattr(node, "returns", None)]
        found += getattr(node, "decorator_list", [])
        if isinstance(node, ast.ClassDef):
            found += [*node.bases, *node.keywords]
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in UNCHANGED:
            found += node.args[1:]
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") in ("__slots__", "__all__"):
            found.append(node)
    return {inner for node in found if node is not None for inner in ast.walk(node)}


def _set(name: str, value: Callable[[Any], Any]) -> Change:
    def change(node: ast.AST) -> None:
        setattr(node, name, value(getattr(node, name)))

    return change


def _negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _changes(node: ast.AST) -> Iterator[Change]:
    match node:
        case ast.Compare(ops=ops):
            for place, op in enumerate(ops):
                for new in COMPARISONS[type(op)]:
                    yield _set("ops", lambda ops, place=place, new=new: [*ops[:place], new(), *ops[place + 1 :]])
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in OPERATORS:
            yield _set("op", lambda op: OPERATORS[type(op)]())
        case ast.BoolOp():
            yield _set("op", lambda op: ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            yield lambda node: node.operand
        case ast.Constant(value=bool()):
            yield _set("value", lambda value: not value)
        case ast.Constant(value=int() | float()):
            yield _set("value", lambda value: value + 1)
            yield _set("value", lambda value: value - 1)
        case ast.Break():
            yield lambda node: ast.Continue()
        case ast.Continue():
            yield lambda node: ast.Break()
        case ast.For():
            yield _set("iter", lambda _: ast.Tuple([], ast.Load()))
        case ast.Return(value=ast.expr() as value) if getattr(value, "value", value) is not None:
            yield _set("value", lambda _: ast.Constant(None))
        case ast.comprehension(ifs=ifs):
            for place in range(len(ifs)):
                yield _set("ifs", lambda ifs, place=place: [*ifs[:place], _negated(ifs[place]), *ifs[place + 1 :]])
    match node:
        case ast.If() | ast.While() | ast.IfExp():
            yield _set("test", _negated)
        case ast.Expr(value=value) if not isinstance(value, ast.Constant):
            yield lambda node: ast.Pass()
        case ast.AugAssign() | ast.Delete() | ast.Raise():
            yield lambda node: ast.Pass()
        case ast.Assign(targets=targets) if any(
            isinstance(target, ast.Attribute | ast.Subscript) for target in targets
        ):
            yield lambda node: ast.Pass()


class _Replace(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> Any:
        return self.new if node is self.old else self.generic_visit(node)


def mutants(source: str) -> Iterator[Mutant]:
    """Yield all mutants of a module."""
    original = ast.parse(source)
    typed = _typed(original)
    for number, node in enumerate(ast.walk(original)):
        if node in typed:
            continue
        for change in _changes(node):
            tree = copy.deepcopy(original)
            target = next(found for place, found in enumerate(ast.walk(tree)) if place == number)
            before = ast.unparse(target)
            new = change(target)
            if new is not None:
                tree = _Replace(target, new).visit(tree)
            after = ast.unparse(new or target)
            where = f"{getattr(target, 'lineno', 0)}:{getattr(target, 'col_offset', 0)}"
            text = f"{where}: {before.splitlines()[0][:90]}  ->  {after.splitlines()[0][:90]}"
            yield Mutant(text, ast.fix_missing_locations(tree))


Codes = dict[tuple[str, int], CodeType]


def _codes(code: CodeType) -> Codes:
    """The code of all functions, by name and line."""
    found: Codes = {}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= {(inner.co_qualname, inner.co_firstlineno): inner} | _codes(inner)
    return found


def _forked(run: Callable[[], int], wall: float) -> int:
    """The exit status of what runs in a fork of its own group."""
    child = os.fork()
    if not child:
        os.setsid()
        silent = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silent, 1)
        os.dup2(silent, 2)
        try:
            os._exit(run())
        finally:
            os._exit(99)
    until = time.monotonic() + wall
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done or time.monotonic() > until:
            break
        time.sleep(0.002)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, 9)
    if not done:
        os.waitpid(child, 0)
        return HUNG
    return os.waitstatus_to_exitcode(status)


class Forks:
    """A pytest plugin that runs the collected tests once for each mutant of functions."""

    def __init__(self, path: str, source: str, all_mutants: list[Mutant]) -> None:
        self._path, self._mutants = path, all_mutants
        self._original = _codes(compile(source, path, "exec"))
        self.outcomes: dict[str, int] = {}
        self.others: list[Mutant] = []
        """Mutants outside of functions."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        gc.collect()
        functions = [
            each
            for each in gc.get_objects()
            if isinstance(each, FunctionType) and each.__code__.co_filename == self._path
        ]
        gc.freeze()
        began = time.monotonic()
        if _forked(lambda: self._run(session), 3600.0):
            raise pytest.UsageError("the tests fail without a mutant")
        wall = max(20.0, 20 * (time.monotonic() - began))
        for mutant in self._mutants:
            codes = _codes(compile(mutant.tree, self._path, "exec"))
            changed = {place: code for place, code in codes.items() if self._original.get(place) != code}
            loaded = [
                each for each in functions if (each.__code__.co_qualname, each.__code__.co_firstlineno) in changed
            ]
            if not loaded:
                self.others.append(mutant)
                continue

            def run(loaded: list[FunctionType] = loaded, changed: Codes = changed) -> int:
                for each in loaded:
                    each.__code__ = changed[each.__code__.co_qualname, each.__code__.co_firstlineno]
                return self._run(session)

            self.outcomes[mutant.text] = _forked(run, wall)
        return True

    def _run(self, session: pytest.Session) -> int:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        for item in session.items:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if session.testsfailed:
                return 1
        return 0


class Anew(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the module from a mutant."""

    def __init__(self, name: str, path: str, tree: ast.Module) -> None:
        self._name, self._path, self._tree = name, path, tree

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        return importlib.util.spec_from_file_location(name, self._path, loader=self) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, self._path, "exec"), module.__dict__)


def main(module: str, *tests: str) -> None:
    """Print the mutants of a module that survive, and how many were killed."""
    path = Path(module).resolve()
    source = path.read_text()
    found = list(mutants(source))
    options = ["-q", "-x", "-n0", "-p", "no:cacheprovider", "--tb=no", "-o", "timeout=0", "-W", REWRITING, *tests]
    hypothesis.settings.register_profile("mutants", database=None, max_examples=20, derandomize=True, deadline=None)
    hypothesis.settings.load_profile("mutants")
    reader, writer = os.pipe()
    if not os.fork():  # which imports the module; this process does not
        plugin = Forks(str(path), source, found)
        status = pytest.main(options, plugins=[plugin])
        lines = [
            *(f"{code} {text}" for text, code in plugin.outcomes.items()),
            *(f"? {one.text}" for one in plugin.others),
        ]
        with os.fdopen(writer, "w") as pipe:
            pipe.write("\n".join(lines) if status == pytest.ExitCode.NO_TESTS_COLLECTED or not status else "")
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        outcomes = {text: code for code, _, text in (line.rstrip("\n").partition(" ") for line in pipe)}
    os.wait()
    name = ".".join(Path(module).with_suffix("").parts)
    for mutant in found:
        if outcomes.get(mutant.text) == "?":
            finder = Anew(name, str(path), mutant.tree)

            def run(finder: Anew = finder) -> int:
                sys.meta_path.insert(0, finder)
                importlib.import_module(name)  # before pytest puts its own finder first
                return int(pytest.main(options))

            outcomes[mutant.text] = str(_forked(run, 300.0))
    survivors = [text for text, code in outcomes.items() if code == str(SURVIVED)]
    hung = Counter(outcomes.values())[str(HUNG)]
    total = len(outcomes)
    print(*survivors, sep="\n")
    print(f"{module}: {total - len(survivors)} of {total} mutants killed, {hung} of them by the clock")


if __name__ == "__main__":
    main(*sys.argv[1:])
