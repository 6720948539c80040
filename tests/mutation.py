"""Mutants of a module against tests: one that survives shows what no test checks.

    python -m tests.mutation recall_async/retry.py tests/session/test_retry_table.py [pytest options]

A mutant is one small change of the source: another comparison or operator, a condition negated, a number one more or less,
a statement left out. The tests that execute the statement run in a fork for each mutant, in which the code of the changed
function is replaced. For a change of what runs at import, or never, the module is imported anew, and all tests run.
Hypothesis tries few examples, always the same. Mutants that compute the same by another way survive, too: read the list.
Choose tests that need a second or two.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import importlib.abc
import importlib.util
import json
import math
import os
import resource
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, FunctionType, ModuleType
from typing import IO, Any, NamedTuple

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
CPU_AT_LEAST = 2
"""The least seconds of the processor after which a mutant hangs; otherwise five times what the tests need."""
ANEW_CPU = 30.0
"""The same for a mutant with which the module is imported anew."""


class Mutant(NamedTuple):
    """A changed module."""

    text: str
    code: CodeType
    lines: range
    """The lines of the changed statement, without the statements in it."""


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


def _lines(tree: ast.Module) -> dict[ast.AST, range]:
    """The lines of the statement that each node is in, without the statements in that one."""
    found: dict[ast.AST, range] = {}

    def visit(node: ast.AST, lines: range) -> None:
        if isinstance(node, ast.stmt | ast.ExceptHandler | ast.match_case):
            begin = node.pattern if isinstance(node, ast.match_case) else node
            body = getattr(node, "body", None)
            end = max(begin.lineno, body[0].lineno - 1) if body else begin.end_lineno
            lines = range(begin.lineno, (end or begin.lineno) + 1)
        found[node] = lines
        for child in ast.iter_child_nodes(node):
            visit(child, lines)

    visit(tree, range(0))
    return found


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


def _replace(tree: ast.Module, old: ast.AST, new: ast.AST) -> None:
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
                return
            if isinstance(value, list) and (place := next((n for n, one in enumerate(value) if one is old), -1)) >= 0:
                value[place] = new
                return


def mutants(source: str, path: str = "<mutant>") -> Iterator[Mutant]:
    """Yield all mutants of a module."""
    tree = ast.parse(source)
    typed, lines = _typed(tree), _lines(tree)
    for node in list(ast.walk(tree)):
        if node in typed:
            continue
        for change in _changes(node):
            before, kept = ast.unparse(node), dict(vars(node))
            new = change(node)
            changed = node if new is None else new
            if not hasattr(changed, "lineno"):
                ast.copy_location(changed, node)
            after = ast.unparse(changed)
            where = f"{getattr(node, 'lineno', 0)}:{getattr(node, 'col_offset', 0)}"
            text = f"{where}: {before.splitlines()[0][:90]}  ->  {after.splitlines()[0][:90]}"
            if changed is not node:
                _replace(tree, node, changed)
            yield Mutant(text, compile(ast.fix_missing_locations(tree), path, "exec"), lines[node])
            if changed is not node:
                _replace(tree, changed, node)
            vars(node).update(kept)


Codes = dict[tuple[str, int], CodeType]


def _codes(code: CodeType) -> Codes:
    """The code of all functions, by name and line."""
    found: Codes = {}
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            found |= {(inner.co_qualname, inner.co_firstlineno): inner} | _codes(inner)
    return found


def _forked(run: Callable[[], int], wall: float, cpu: float = math.inf) -> int:
    """The exit status of what runs in a fork of its own group, for so many seconds, also of the processor, at most."""
    child = os.fork()
    if not child:
        if cpu != math.inf:
            resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(cpu), math.ceil(cpu)))  # the kernel kills it
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
    """A pytest plugin that runs the collected tests once for each mutant of a statement that they execute."""

    def __init__(self, path: str, source: str, all_mutants: list[Mutant]) -> None:
        self._path, self._mutants = path, all_mutants
        self._original = _codes(compile(source, path, "exec"))
        self.outcomes: dict[str, int] = {}
        self.others: list[Mutant] = []
        """Mutants of statements that run when the module is imported, or never."""

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        gc.collect()
        functions = [
            each
            for each in gc.get_objects()
            if isinstance(each, FunctionType) and each.__code__.co_filename == self._path
        ]
        gc.freeze()
        began = time.monotonic()
        with tempfile.TemporaryFile("w+") as file:
            if _forked(lambda: self._trace(session, file), 3600.0):
                raise pytest.UsageError("the tests fail without a mutant")
            file.seek(0)
            executed = [set(json.loads(line)) for line in file]
        wall = max(20.0, 20 * (time.monotonic() - began))
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = max(CPU_AT_LEAST, 5 * (used.ru_utime + used.ru_stime))
        for mutant in self._mutants:
            codes = _codes(mutant.code)
            changed = {place: code for place, code in codes.items() if self._original.get(place) != code}
            loaded = [
                each for each in functions if (each.__code__.co_qualname, each.__code__.co_firstlineno) in changed
            ]
            tests = [
                item for item, lines in zip(session.items, executed, strict=True) if not lines.isdisjoint(mutant.lines)
            ]
            if not (loaded and tests):
                self.others.append(mutant)
                continue

            def run(loaded: list[FunctionType] = loaded, changed: Codes = changed, tests: Any = tests) -> int:
                for each in loaded:
                    each.__code__ = changed[each.__code__.co_qualname, each.__code__.co_firstlineno]
                return self._run(session, tests)

            self.outcomes[mutant.text] = _forked(run, wall, cpu)
        return True

    def _run(self, session: pytest.Session, tests: list[pytest.Item]) -> int:
        resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
        for item in tests:
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=None)
            if session.testsfailed:
                return 1
        return 0

    def _trace(self, session: pytest.Session, file: IO[str]) -> int:
        """Run all tests, and write the lines of the module that each of them executes."""
        lines: set[int] = set()

        def called(frame: FrameType, event: str, arg: Any) -> Any:
            return executed if frame.f_code.co_filename == self._path else None

        def executed(frame: FrameType, event: str, arg: Any) -> Any:
            lines.add(frame.f_lineno)
            return executed

        for item in session.items:
            lines.clear()
            threading.settrace(called)
            sys.settrace(called)
            failed = self._run(session, [item])
            sys.settrace(None)
            if failed:
                return failed
            print(json.dumps(sorted(lines)), file=file, flush=True)
        return 0


class Anew(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports the module from a mutant."""

    def __init__(self, name: str, path: str, code: CodeType) -> None:
        self._name, self._path, self._code = name, path, code

    def find_spec(self, name: str, path: object = None, target: object = None) -> Any:
        return importlib.util.spec_from_file_location(name, self._path, loader=self) if name == self._name else None

    def exec_module(self, module: ModuleType) -> None:
        exec(self._code, module.__dict__)


def main(module: str, *tests: str) -> None:
    """Print the mutants of a module that survive, and how many were killed."""
    path = Path(module).resolve()
    source = path.read_text()
    found = list(mutants(source, str(path)))
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
            finder = Anew(name, str(path), mutant.code)

            def run(finder: Anew = finder) -> int:
                sys.meta_path.insert(0, finder)
                importlib.import_module(name)  # before pytest puts its own finder first
                return int(pytest.main(options))

            outcomes[mutant.text] = str(_forked(run, 300.0, ANEW_CPU))
    survivors = [text for text, code in outcomes.items() if code == str(SURVIVED)]
    hung = Counter(outcomes.values())[str(HUNG)]
    total = len(outcomes)
    print(*survivors, sep="\n")
    print(f"{module}: {total - len(survivors)} of {total} mutants killed, {hung} of them by the clock")


if __name__ == "__main__":
    main(*sys.argv[1:])
