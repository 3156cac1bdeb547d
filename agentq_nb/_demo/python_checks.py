"""Find constructs in Python source that are often mistakes. Each function checks one node of the tree."""

from __future__ import annotations

import ast
import builtins
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from types import BuiltinFunctionType
from typing import cast

from agentq_nb._demo.report import Finding

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_BUILTINS = frozenset(
    name
    for name, value in vars(builtins).items()
    if name.islower() and name[0] != "_" and isinstance(value, (type, BuiltinFunctionType))
)
_UNSAFE = {
    "eval": "eval runs text as code",
    "exec": "exec runs text as code",
    "os.system": "os.system runs a shell",
    "pickle.load": "pickle runs code that is hidden in its data",
    "pickle.loads": "pickle runs code that is hidden in its data",
    "tempfile.mktemp": "tempfile.mktemp lets others create the file first",
    "yaml.unsafe_load": "yaml.unsafe_load builds any object",
}
_BLOCKING = (
    "time.sleep",
    "subprocess.run",
    "subprocess.check_output",
    "subprocess.check_call",
    "os.system",
    "requests.get",
    "requests.post",
    "urllib.request.urlopen",
)
_RUNNERS = ("Popen", "call", "check_call", "check_output", "run")
_TASK_STARTERS = ("create_task", "ensure_future")


def check(tree: ast.Module) -> Iterator[Finding]:
    """Yield findings about all suspicious constructs of the tree, in no particular order."""
    for node in ast.walk(tree):
        for kind, checks in _CHECKS:
            if isinstance(node, kind):
                for look in checks:
                    yield from look(node)


def unused_imports(tree: ast.Module) -> Iterator[Finding]:
    """Yield findings about names that the module imports at its top level and never uses, nor mentions in strings."""
    words = _words(tree)
    for statement in tree.body:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            for name in _imported(statement):
                if name not in words:
                    yield Finding(statement.lineno, "unused-import", f"{name} is imported and not used")


def _words(tree: ast.Module) -> set[str]:
    """Return all names of the tree, and all words of strings without white space (``__all__``, quoted annotations)."""
    words = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and not re.search(r"\s", node.value):
            words.update(re.findall(r"\w+", node.value))
    return words


def _imported(statement: ast.Import | ast.ImportFrom) -> list[str]:
    """Return the names it binds, without those meant for other modules: ``import a as a``, ``*`` and ``__future__``."""
    if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
        return []
    names = [alias for alias in statement.names if alias.name not in ("*", alias.asname)]
    return [alias.asname or alias.name.partition(".")[0] for alias in names]


def _dotted(node: ast.expr) -> str:
    """Return ``a.b.c`` for names and attributes of names; an empty text for anything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else ""


def _handler(node: ast.ExceptHandler) -> Iterator[Finding]:
    broad = node.type is None or _dotted(node.type) in ("Exception", "BaseException")
    silent = all(isinstance(statement, (ast.Pass, ast.Continue)) for statement in node.body)
    if broad and silent:
        yield Finding(node.lineno, "swallowed-error", "every error is swallowed here", serious=True)
    elif node.type is None:
        yield Finding(node.lineno, "bare-except", "bare except catches KeyboardInterrupt too", serious=True)


def _call(node: ast.Call) -> Iterator[Finding]:
    if (called := _dotted(node.func)) in _UNSAFE:
        yield Finding(node.lineno, "unsafe-call", _UNSAFE[called], serious=True)
    for keyword in node.keywords:
        if isinstance(keyword.value, ast.Constant):
            if keyword.arg == "shell" and keyword.value.value is True and called.rpartition(".")[2] in _RUNNERS:
                yield Finding(node.lineno, "shell", "shell=True lets text become commands", serious=True)
            if keyword.arg == "verify" and keyword.value.value is False:
                yield Finding(node.lineno, "no-verify", "verify=False accepts any certificate", serious=True)


def _compare(node: ast.Compare) -> Iterator[Finding]:
    sides = [node.left, *node.comparators]
    for operator, (left, right) in zip(node.ops, pairwise(sides), strict=True):
        constants = [side.value for side in (left, right) if isinstance(side, ast.Constant)]
        if isinstance(operator, (ast.Eq, ast.NotEq)) and None in constants:
            yield Finding(node.lineno, "equals-none", "compared with None by == instead of is", serious=True)
        if isinstance(operator, (ast.Is, ast.IsNot)) and any(_is_value(value) for value in constants):
            yield Finding(node.lineno, "is-literal", "is compares identity, not the value", serious=True)


def _is_value(constant: object) -> bool:
    return isinstance(constant, (str, bytes, int, float, complex)) and not isinstance(constant, bool)


def _assert(node: ast.Assert) -> Iterator[Finding]:
    if isinstance(node.test, ast.Tuple) and node.test.elts:
        yield Finding(node.lineno, "assert-tuple", "assert of a tuple is always true", serious=True)


def _raise(node: ast.Raise) -> Iterator[Finding]:
    raised = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
    if isinstance(raised, ast.Name) and raised.id == "NotImplemented":
        yield Finding(node.lineno, "raise-notimplemented", "raise NotImplemented is a TypeError", serious=True)


def _dictionary(node: ast.Dict) -> Iterator[Finding]:
    counted = Counter((type(key.value), key.value) for key in node.keys if isinstance(key, ast.Constant))
    for (_, key), times in counted.items():
        if times > 1:
            yield Finding(node.lineno, "repeated-key", f"key {_shown(key)} is given {times} times", serious=True)


def _shown(key: object) -> str:
    return f"{key!r:.40}" if isinstance(key, (str, bytes)) else "of a number or constant"


def _arguments(node: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Iterator[Finding]:
    arguments = node.args
    for default in [*arguments.defaults, *arguments.kw_defaults]:
        made = isinstance(default, ast.Call) and _dotted(default.func) in ("list", "dict", "set")
        if made or isinstance(default, (ast.List, ast.Dict, ast.Set)):
            line = getattr(default, "lineno", node.lineno)
            yield Finding(line, "mutable-default", "default value is shared by all calls", serious=True)
    for argument in [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]:
        if argument.arg in _BUILTINS:
            yield Finding(argument.lineno, "shadows-builtin", f"argument hides the built-in {argument.arg}")


def _assigned(node: ast.Module | ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
    """Yield findings about assignments that hide a built-in in a module or function. A class's attributes hide none."""
    for statement in node.body:
        for target in statement.targets if isinstance(statement, ast.Assign) else ():
            if isinstance(target, ast.Name) and target.id in _BUILTINS:
                yield Finding(target.lineno, "shadows-builtin", f"assignment hides the built-in {target.id}")


def _blocking(node: ast.AsyncFunctionDef) -> Iterator[Finding]:
    waiting: list[ast.AST] = list(node.body)
    while waiting:
        inner = waiting.pop()
        if isinstance(inner, (*_FUNCTIONS, ast.Lambda)):
            continue
        if isinstance(inner, ast.Call) and (called := _dotted(inner.func)) in _BLOCKING:
            yield Finding(inner.lineno, "blocks-loop", f"{called} blocks the event loop", serious=True)
        waiting.extend(ast.iter_child_nodes(inner))


def _expression(node: ast.Expr) -> Iterator[Finding]:
    call = node.value
    if isinstance(call, ast.Call) and _dotted(call.func) in [f"asyncio.{name}" for name in _TASK_STARTERS]:
        yield Finding(node.lineno, "lost-task", "nobody keeps this task: it may vanish unfinished", serious=True)


def _bodies(node: ast.AST) -> Iterator[Finding]:
    for name in ("body", "orelse", "finalbody"):
        statements = getattr(node, name, None)
        if isinstance(statements, list):
            block = cast("list[ast.stmt]", statements)
            yield from _unreachable(block)
            yield from _redefined(block)


def _unreachable(statements: list[ast.stmt]) -> Iterator[Finding]:
    for statement, following in pairwise(statements):
        # "return; yield" is how an empty generator is written.
        yields = isinstance(following, ast.Expr) and isinstance(following.value, (ast.Yield, ast.YieldFrom))
        if isinstance(statement, (ast.Return, ast.Raise, ast.Break, ast.Continue)) and not yields:
            yield Finding(following.lineno, "unreachable", "code that is never reached", serious=True)


def _redefined(statements: list[ast.stmt]) -> Iterator[Finding]:
    plain = [node for node in statements if isinstance(node, _FUNCTIONS) and not node.decorator_list]
    last = {node.name: node for node in plain}
    for node in plain:
        if last[node.name] is not node:
            yield Finding(node.lineno, "redefined", f"{node.name} is defined again below", serious=True)


_Check = Callable[..., Iterator[Finding]]
_CHECKS: tuple[tuple[type[ast.AST] | tuple[type[ast.AST], ...], tuple[_Check, ...]], ...] = (
    (ast.ExceptHandler, (_handler,)),
    (ast.Call, (_call,)),
    (ast.Compare, (_compare,)),
    (ast.Assert, (_assert,)),
    (ast.Raise, (_raise,)),
    (ast.Dict, (_dictionary,)),
    (ast.Expr, (_expression,)),
    (ast.AsyncFunctionDef, (_blocking,)),
    ((*_FUNCTIONS, ast.Lambda), (_arguments,)),
    ((*_FUNCTIONS, ast.Module), (_assigned,)),
    ((ast.stmt, ast.Module, ast.ExceptHandler, ast.match_case), (_bodies,)),
)
