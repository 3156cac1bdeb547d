"""Check Python source: measure its functions, and find constructs that are often mistakes."""

from __future__ import annotations

import ast
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from agentq_nb._demo import python_checks
from agentq_nb._demo.report import Finding, Function

LONGEST_FUNCTION = 80
"""The most lines of a function that is not reported as long."""

HIGHEST_COMPLEXITY = 12
"""The highest cyclomatic complexity of a function that is not reported as complex."""

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_SCOPES = (*_FUNCTIONS, ast.Lambda, ast.ClassDef)
_BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler)

# The state of the warnings module is global: reviews in several threads take turns while they parse.
_parsing = threading.Lock()


@dataclass
class Code:
    """The findings and measured functions of one Python file."""

    findings: list[Finding] = field(default_factory=list[Finding])
    functions: list[Function] = field(default_factory=list[Function])


def examine(path_name: str, source: bytes) -> Code:
    """Parse and check ``source``; source that does not parse is a finding."""
    code = Code()
    with _parsing, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            tree = ast.parse(source)
        except SyntaxError as error:
            code.findings.append(Finding(error.lineno or 1, "syntax", f"does not parse: {error.msg}", serious=True))
            return code
        except (RecursionError, MemoryError):
            code.findings.append(Finding(1, "syntax", "nested too deeply to be parsed", serious=True))
            return code
        except (ValueError, LookupError) as error:
            code.findings.append(Finding(1, "syntax", f"does not parse: {error}", serious=True))
            return code
    # Warnings of the parser itself, mostly about invalid escape sequences.
    code.findings += [Finding(max(1, warning.lineno), "warning", str(warning.message)) for warning in caught]
    code.functions += [_measure(node) for node in ast.walk(tree) if isinstance(node, _FUNCTIONS)]
    code.findings += _remarks_on(code.functions)
    code.findings += _missing_docstrings(tree)
    code.findings += python_checks.check(tree)
    if PurePath(path_name).name != "__init__.py":
        code.findings += python_checks.unused_imports(tree)
    return code


def _measure(function: ast.FunctionDef | ast.AsyncFunctionDef) -> Function:
    length = (function.end_lineno or function.lineno) - function.lineno + 1
    return Function(function.name, function.lineno, length, complexity(function))


def complexity(function: ast.AST) -> int:
    """Return the cyclomatic complexity: 1, plus 1 for each branch, loop, handler, case, and/or and comprehension's if.

    Functions inside the function are counted on their own.
    """
    total = 1
    waiting = list(ast.iter_child_nodes(function))
    while waiting:
        node = waiting.pop()
        if isinstance(node, _SCOPES):
            continue
        if isinstance(node, _BRANCHES):
            total += 1
        elif isinstance(node, ast.BoolOp):
            total += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            total += 1 + len(node.ifs)
        elif isinstance(node, ast.match_case):
            total += not _matches_anything(node)
        waiting.extend(ast.iter_child_nodes(node))
    return total


def _matches_anything(case: ast.match_case) -> bool:
    return case.guard is None and isinstance(case.pattern, ast.MatchAs) and case.pattern.pattern is None


def _remarks_on(functions: list[Function]) -> Iterator[Finding]:
    for function in functions:
        if function.length > LONGEST_FUNCTION:
            yield Finding(function.line, "long-function", f"{function.name} has {function.length} lines")
        if function.complexity > HIGHEST_COMPLEXITY:
            yield Finding(function.line, "complex", f"{function.name} has complexity {function.complexity}")


def _missing_docstrings(tree: ast.Module) -> Iterator[Finding]:
    """Yield findings about public classes and functions without a docstring, except tests, whose names suffice."""
    waiting: list[ast.Module | ast.ClassDef] = [tree]
    while waiting:
        owner = waiting.pop()
        for node in owner.body:
            if not isinstance(node, (*_FUNCTIONS, ast.ClassDef)) or node.name.startswith(("_", "test_")):
                continue
            if isinstance(node, ast.ClassDef):
                waiting.append(node)
            if ast.get_docstring(node, clean=False) is None and not node.decorator_list:
                yield Finding(node.lineno, "no-docstring", f"{node.name} has no docstring")
