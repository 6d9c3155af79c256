"""Statements that every request runs: compiled once, and given to the driver as text.

Building, compiling and running a query through the toolkit takes 0.2 ms and more, the query itself 0.01 ms.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import exc

if TYPE_CHECKING:
    from sqlalchemy import Engine, Select


_Converters: TypeAlias = "Sequence[tuple[int, Callable[[Any], Any]]]"
"""Places of the columns whose values the driver gives otherwise than they are wanted, and what makes these of them."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    text: str
    names: tuple[str, ...] | None
    """Of the parameters in their order; None where the driver takes them by name."""


class Prepared:
    """A query whose parameters are text and whole numbers. Thread-safe.

    Parameters
    ----------
    statement : Select
        With named parameters.
    """

    def __init__(self, statement: Select[Any]) -> None:
        self.statement = statement
        self._lock = threading.Lock()
        self._compiled: dict[str, _Compiled] = {}
        self._converters: dict[str, _Converters] = {}

    def run(self, engine: Engine, parameters: Mapping[str, Any]) -> list[Sequence[Any]]:
        """All rows, in a transaction of their own.

        Raises
        ------
        sqlalchemy.exc.DBAPIError
            As the toolkit does.
        """
        known = self._compiled.get(engine.dialect.name) or self._compile(engine)
        given = parameters if known.names is None else [parameters[name] for name in known.names]
        driver = engine.dialect.loaded_dbapi
        connection = engine.raw_connection()
        try:
            cursor = connection.cursor()
            cursor.execute(known.text, given)
            rows = list(cursor.fetchall())
            columns = cursor.description
        except driver.Error as error:
            connection.invalidate(error)
            raise exc.DBAPIError.instance(
                known.text, None, error, driver.Error, hide_parameters=True, dialect=engine.dialect
            ) from error
        finally:
            connection.close()
        converters = self._converters.get(engine.dialect.name)
        if converters is None:
            converters = self._found_converters(engine, [column[1] for column in columns or ()])
        return [_converted(row, converters) for row in rows] if converters else rows

    def _compile(self, engine: Engine) -> _Compiled:
        compiled = self.statement.compile(dialect=engine.dialect)
        names = tuple(compiled.positiontup) if compiled.positional and compiled.positiontup is not None else None
        with self._lock:
            return self._compiled.setdefault(engine.dialect.name, _Compiled(str(compiled), names))

    def _found_converters(self, engine: Engine, types: Sequence[Any]) -> _Converters:
        """What makes values of what the driver gives, which says of which type each column is."""
        dialect, found = engine.dialect, []
        for place, (column, given) in enumerate(zip(self.statement.selected_columns, types, strict=True)):
            convert = column.type.dialect_impl(dialect).result_processor(dialect, given)
            if convert is not None:
                found.append((place, convert))
        with self._lock:
            return self._converters.setdefault(dialect.name, found)


def _converted(row: Sequence[Any], converters: _Converters) -> list[Any]:
    values = list(row)
    for place, convert in converters:
        values[place] = convert(values[place])
    return values
