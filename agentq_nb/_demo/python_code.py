"""Check Python source: measure its functions, and find constructs that are often mistakes."""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Iterator
from typing import NamedTuple

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.match_case, ast.comprehension)
_UNSAFE = ("eval", "exec", "os.system", "pickle.load", "pickle.loads", "yaml.unsafe_load")
_BLOCKING = ("time.sleep", "subprocess.run", "subprocess.check_output", "os.system", "requests.get", "requests.post")

# The state of the warnings module is global: reviews in several threads take turns while they parse.
_parsing = threading.Lock()
_MOST_TRIES = 20


class Finding(NamedTuple):
    """One thing worth a look. ``line`` counts from 1; ``serious`` ones are likely mistakes, the others are notes."""

    line: int
    rule: str
    text: str
    serious: bool = False

    def __str__(self) -> str:
        return f"{self.text} (line {self.line})"


class Function(NamedTuple):
    """A function's measures: its first line, and its cyclomatic complexity (1: no branch)."""

    name: str
    line: int
    complexity: int


def examine(source: bytes) -> tuple[list[Finding], list[Function]]:
    """Parse and check ``source``; source that does not parse is a finding."""
    with _parsing, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tree = _parsed(source)
        except (SyntaxError, ValueError, LookupError, RecursionError, MemoryError) as error:
            line, why = getattr(error, "lineno", None), getattr(error, "msg", error) or "nested too deeply"
            return [Finding(line or 1, "syntax", f"does not parse: {why}", serious=True)], []
    findings = [Finding(max(1, warning.lineno), "warning", str(warning.message)) for warning in caught]
    nodes = list(ast.walk(tree))
    functions = [_measured(node) for node in nodes if isinstance(node, _FUNCTIONS)]
    for name, line, complexity in functions:
        if complexity > 12:
            findings.append(Finding(line, "complex", f"{name} has complexity {complexity}"))
    for node in nodes:
        findings += _mistakes(node)
    return [*findings, *_unused_imports(tree.body, nodes)], functions


def _parsed(source: bytes) -> ast.Module:
    """Parse ``source``, again if another thread, such as the one that compiles cells, made the interpreter fail."""
    for _ in range(_MOST_TRIES):
        try:
            return ast.parse(source)
        except SystemError:  # until Python 3.13: "AST constructor recursion depth mismatch"
            continue
    return ast.parse(source)


def _measured(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    complexity = 1
    for node in _inside(function):
        complexity += isinstance(node, _BRANCHES)
        complexity += len(node.values) - 1 if isinstance(node, ast.BoolOp) else 0
    return Function(function.name, function.lineno, complexity)


def _inside(function: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes of a function, without those of functions and classes inside."""
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if not isinstance(node, (*_FUNCTIONS, ast.Lambda, ast.ClassDef)):
            yield node
            waiting.extend(ast.iter_child_nodes(node))


def _dotted(node: ast.expr | None) -> str:
    """Return ``a.b`` for names and attributes of names; an empty text for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _mistakes(node: ast.AST) -> Iterator[Finding]:
    if isinstance(node, ast.ExceptHandler):
        broad = node.type is None or _dotted(node.type) in ("Exception", "BaseException")
        if broad and all(isinstance(statement, (ast.Pass, ast.Continue)) for statement in node.body):
            yield Finding(node.lineno, "swallowed-error", "every error is swallowed here", serious=True)
        elif node.type is None:
            yield Finding(node.lineno, "bare-except", "bare except catches KeyboardInterrupt too", serious=True)
    elif isinstance(node, ast.Call) and (called := _dotted(node.func)) in _UNSAFE:
        yield Finding(node.lineno, "unsafe-call", f"{called} runs what its argument says", serious=True)
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.Eq, ast.NotEq)):
        if any(isinstance(side, ast.Constant) and side.value is None for side in (node.left, node.comparators[0])):
            yield Finding(node.lineno, "equals-none", "compared with None by == instead of is", serious=True)
    elif isinstance(node, _FUNCTIONS):
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if isinstance(default, (ast.List, ast.Dict, ast.Set)):
                yield Finding(default.lineno, "mutable-default", "default value is shared by all calls", serious=True)
        for inner in _inside(node) if isinstance(node, ast.AsyncFunctionDef) else ():
            if isinstance(inner, ast.Call) and (called := _dotted(inner.func)) in _BLOCKING:
                yield Finding(inner.lineno, "blocks-loop", f"{called} blocks the event loop", serious=True)
    for inner in node.body if isinstance(node, (ast.Module, ast.ClassDef)) else ():
        if not isinstance(inner, (*_FUNCTIONS, ast.ClassDef)) or inner.name.startswith(("_", "test_")):
            continue
        if not inner.decorator_list and ast.get_docstring(inner, clean=False) is None:
            yield Finding(inner.lineno, "no-docstring", f"{inner.name} has no docstring")


def _unused_imports(statements: list[ast.stmt], nodes: list[ast.AST]) -> Iterator[Finding]:
    """Yield findings about names that the module imports and never uses, nor mentions in ``__all__``."""
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    used |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    for statement in statements:
        if isinstance(statement, (ast.Import, ast.ImportFrom)) and getattr(statement, "module", "") != "__future__":
            for alias in statement.names:
                name = alias.asname or alias.name.partition(".")[0]
                if name not in used and alias.name not in ("*", alias.asname):
                    yield Finding(statement.lineno, "unused-import", f"{name} is imported and not used")
