"""The items of lists, DataFrames and Series as values that JSON can carry. Neither pandas nor polars is imported here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Literal, TypeAlias, cast

from agentq_nb.errors import ValidationFailed

# Neither library is a dependency, and pyright has no types for the one that is installed.

TableKind: TypeAlias = Literal["pandas frame", "pandas series", "polars frame", "polars series"]


def table_kind(items: object) -> TableKind | None:
    """Return which kind of table ``items`` is; None for anything else."""
    kinds: dict[tuple[str, str], TableKind] = {
        ("pandas", "DataFrame"): "pandas frame",
        ("pandas", "Series"): "pandas series",
        ("polars", "DataFrame"): "polars frame",
        ("polars", "Series"): "polars series",
    }
    for base in type(items).__mro__:
        if (kind := kinds.get((base.__module__.partition(".")[0], base.__name__))) is not None:
            return kind
    return None


def rows_of(items: Any, what: str) -> Iterable[Any]:
    """Return the items one by one: a frame's rows as dicts, missing values as None.

    :param what: what the items are called in errors.

    Raises ``actor.validation_error`` for what is no collection of items, such as a str or a dict.
    """
    kind = table_kind(items)
    if kind == "pandas frame":
        columns = [[_present(value) for value in items.iloc[:, at].tolist()] for at in range(items.shape[1])]
        return _dicts(_names(items.columns, what), zip(*columns, strict=True))
    if kind == "polars frame":
        return _dicts(_names(items.columns, what), (map(_present, row) for row in items.iter_rows()))
    if kind is not None:
        return map(_present, cast("list[Any]", items.to_list()))
    if isinstance(items, (str, bytes, bytearray, Mapping)) or not isinstance(items, Iterable):
        name = type(cast(object, items)).__name__
        raise ValidationFailed(
            f"{what} are a list, another iterable, a DataFrame or a Series, not a single {name}. For one, write [item]."
        )
    return cast("Iterable[Any]", items)


def _present(value: Any) -> Any:
    """Return None for NaN, which stands for a missing value in a table."""
    return None if isinstance(value, float) and value != value else value


def _names(columns: Iterable[Any], what: str) -> list[str]:
    names = [name if isinstance(name, str) else str(name) for name in columns]
    twice = [name for number, name in enumerate(names) if name in names[:number]]
    if twice:
        raise ValidationFailed(f"{what} have two columns named '{twice[0]:.100}': rename one of them.")
    return names


def _dicts(names: list[str], rows: Iterable[Iterable[Any]]) -> Iterator[dict[str, Any]]:
    for row in rows:
        yield dict(zip(names, row, strict=True))
