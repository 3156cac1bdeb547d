"""Plausible mistakes: what a tired engineer or a careless merge might leave in a module."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from tests.mutants.mutant import Mutant

_COMPARISONS: dict[type[ast.cmpop], tuple[str, str]] = {
    ast.Lt: ("<", "<="),
    ast.LtE: ("<=", "<"),
    ast.Gt: (">", ">="),
    ast.GtE: (">=", ">"),
}

_WORDS = (
    ("completed", "failed"),
    ("cancelled", "completed"),
    ("again", "released"),
    ("dead", "again"),
    ("queued", "running"),
    ("stopped", "timed_out"),
    ("running", "idle"),
    ("allow_once", "allow_always"),
    ("reject_once", "reject_always"),
    ("always", "once"),
    ("reject", "once"),
)
_OTHER_WORD = dict(reversed(_WORDS))

_NOT_MUTATED = {"__repr__", "__str__", "__dir__", "_repr_html_", "_repr_mimebundle_", "__all__"}


def mutants_of(path: str, source: str, optional: frozenset[str] = frozenset()) -> list[Mutant]:
    """Every mutant of a module that still compiles, in the order of its text.

    :param optional: names of parameters and fields that have a default somewhere; such arguments may be dropped.
    """
    found = _Finder(source, optional)
    found.visit(ast.parse(source))
    mutants: dict[str, Mutant] = {}
    lines = source.splitlines()
    for edit in sorted(found.edits, key=lambda edit: (edit.start, edit.end, edit.text)):
        after = edit.applied(source.encode()).decode()
        if _compiles(after):
            statement = lines[edit.statement - 1].strip()
            mutants.setdefault(after, Mutant(path, edit.function, edit.mistake, edit.line, statement, source, after))
    return list(mutants.values())


def optional_names(sources: Iterable[str]) -> frozenset[str]:
    """Names of all parameters and fields with a default."""
    names: set[str] = set()
    for node in (node for source in sources for node in ast.walk(ast.parse(source))):
        if isinstance(node, ast.arguments):
            positional = [*node.posonlyargs, *node.args]
            names |= {argument.arg for argument in positional[len(positional) - len(node.defaults) :]}
            names |= {
                argument.arg for argument, default in zip(node.kwonlyargs, node.kw_defaults, strict=True) if default
            }
        elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
            names.add(node.target.id)
    return frozenset(names)


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


@dataclass(frozen=True)
class _Edit:
    """Bytes replaced by others."""

    start: int
    end: int
    text: str
    mistake: str
    function: str
    line: int
    statement: int

    def applied(self, source: bytes) -> bytes:
        return source[: self.start] + self.text.encode() + source[self.end :]


class _Finder(ast.NodeVisitor):
    def __init__(self, source: str, optional: frozenset[str]) -> None:
        self.edits: list[_Edit] = []
        self._source = source.encode()
        self._optional = optional
        self._lines = [0]
        for line in self._source.splitlines(keepends=True):
            self._lines.append(self._lines[-1] + len(line))
        self._names: list[str] = []
        self._functions = 0
        self._statement = 1

    def visit(self, node: ast.AST) -> None:
        """Visit, remembering which statement a change belongs to."""
        before = self._statement
        if isinstance(node, ast.stmt):
            self._statement = node.lineno
        super().visit(node)
        self._statement = before

    # --- where --------------------------------------------------------------------------------------------------------

    def _span(self, first: ast.AST, last: ast.AST | None = None) -> tuple[int, int]:
        last = last or first
        start = self._lines[getattr(first, "lineno") - 1] + getattr(first, "col_offset")  # noqa: B009
        return start, self._lines[getattr(last, "end_lineno") - 1] + getattr(last, "end_col_offset")  # noqa: B009

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._source[start:end].decode()

    def _edit(self, span: tuple[int, int], text: str, mistake: str, statement: int | None = None) -> None:
        line = self._source[: span[0]].count(b"\n") + 1
        function = ".".join(self._names) if self._functions else ""
        self.edits.append(_Edit(*span, text, mistake, function, line, statement or self._statement))

    def _replace(self, node: ast.AST, text: str, mistake: str) -> None:
        self._edit(self._span(node), text, mistake)

    def _between(self, left: ast.expr, right: ast.expr, old: str, new: str) -> None:
        """Replace the operator between two expressions."""
        start, end = self._span(left)[1], self._span(right)[0]
        self._edit((start, end), self._source[start:end].decode().replace(old, new, 1), f"{new} for {old}")

    # --- functions and classes ----------------------------------------------------------------------------------------

    def _enter(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name in _NOT_MUTATED:
            return
        outer = self._names
        self._names = [*outer, *(["<locals>"] if self._functions else []), node.name]
        self._functions += 1
        for default in [*node.args.defaults, *node.args.kw_defaults]:
            if default is not None:
                self.visit(default)
        self._body(node.body)
        self._functions -= 1
        self._names = outer

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        self._enter(node)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self._enter(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        if any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases):
            return
        outer, functions = self._names, self._functions
        self._names, self._functions = [*outer, *(["<locals>"] if functions else []), node.name], 0
        self._body(node.body)
        self._names, self._functions = outer, functions

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.visit(node.body)

    def _body(self, statements: list[ast.stmt]) -> None:
        for statement in statements:
            if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)):
                self.visit(statement)

    # --- statements ---------------------------------------------------------------------------------------------------

    def visit_Expr(self, node: ast.Expr) -> None:
        if self._functions and isinstance(node.value, ast.Call | ast.Await) and not _logs(node.value):
            self._replace(node, "pass", "drop a call")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if self._functions and all(isinstance(target, ast.Attribute | ast.Subscript) for target in node.targets):
            self._replace(node, "pass", "drop an assignment")
        self.visit(node.value)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self._replace(node, "pass", "drop an assignment")
        self.visit(node.value)

    def visit_Delete(self, node: ast.Delete) -> None:
        self._replace(node, "pass", "drop a deletion")

    def visit_Raise(self, node: ast.Raise) -> None:
        self._replace(node, "pass", "drop a raise")

    def visit_Assert(self, node: ast.Assert) -> None:
        return

    def visit_Continue(self, node: ast.Continue) -> None:
        self._replace(node, "break", "break instead of continue")

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is None:
            self._replace(node, "pass", "drop a return")
            return
        if not isinstance(node.value, ast.Constant):
            self._replace(node.value, "None", "return None")
        self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            return
        self._negate(node.test)
        self.visit(node.test)
        self._body([*node.body, *node.orelse])

    def visit_While(self, node: ast.While) -> None:
        self.visit(node.test)
        self._body([*node.body, *node.orelse])

    def visit_IfExp(self, node: ast.IfExp) -> None:
        self._negate(node.test)
        self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        self._body([*node.body, *node.orelse, *node.finalbody])
        for handler in node.handlers:
            if not all(isinstance(statement, ast.Pass | ast.Continue | ast.Raise) for statement in handler.body):
                self._drop_block(handler.body, "drop the body of an except")
            self._body(handler.body)
        if node.finalbody:
            self._drop_block(node.finalbody, "drop a finally")

    def _drop_block(self, body: list[ast.stmt], mistake: str) -> None:
        self._edit(self._span(body[0], body[-1]), "pass", mistake, body[0].lineno)

    # --- expressions --------------------------------------------------------------------------------------------------

    def _negate(self, test: ast.expr) -> None:
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return  # dropping its `not` is the same
        self._replace(test, f"not ({self._text(test)})", "negate a condition")

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self._replace(node, self._text(node.operand), "drop a not")
        self.visit(node.operand)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        word = " and " if isinstance(node.op, ast.And) else " or "
        for value in node.values:
            others = [self._text(other) for other in node.values if other is not value]
            self._replace(node, f"({word.join(others)})", "drop a part of a condition")
            self.visit(value)

    def visit_Compare(self, node: ast.Compare) -> None:
        if len(node.ops) == 1 and type(node.ops[0]) in _COMPARISONS:
            old, new = _COMPARISONS[type(node.ops[0])]
            self._between(node.left, node.comparators[0], old, new)
        self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> None:
        sides = (node.left, node.right)
        if isinstance(node.op, ast.BitOr):
            if any(isinstance(side, ast.Attribute) for side in sides) and self._functions:
                self._replace(node, self._text(node.left), "drop a flag")
                self._replace(node, self._text(node.right), "drop a flag")
        elif isinstance(node.op, ast.Add | ast.Sub) and not any(isinstance(side, ast.JoinedStr) for side in sides):
            old, new = ("+", "-") if isinstance(node.op, ast.Add) else ("-", "+")
            self._between(node.left, node.right, old, new)
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        value = node.value
        if isinstance(value, bool):
            self._replace(node, str(not value), f"{not value} for {value}")
        elif isinstance(value, int) and self._functions:
            self._replace(node, str(value + 1 if value != 1 else 0), "another number")
        elif isinstance(value, str) and value in _OTHER_WORD and self._text(node)[:1] in "\"'":
            self._replace(node, f'"{_OTHER_WORD[value]}"', "another word")

    def visit_Call(self, node: ast.Call) -> None:
        given = [*node.args, *node.keywords]
        for place, keyword in enumerate(given):
            if isinstance(keyword, ast.keyword) and keyword.arg in self._optional and place > 0:
                start, end = self._span(given[place - 1])[1], self._span(keyword)[1]
                self._edit((start, end), "", "drop an argument")
        self.generic_visit(node)

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        return  # in Python 3.11 its parts have no places of their own

    def visit_Import(self, node: ast.Import) -> None:
        return

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        return


def _logs(node: ast.expr) -> bool:
    return "getLogger" in ast.dump(node)


def all_of(sources: dict[str, str]) -> Iterator[Mutant]:
    """The mutants of several modules, by path."""
    optional = optional_names(sources.values())
    for path, source in sorted(sources.items()):
        yield from mutants_of(path, source, optional)
