"""Statements that every request runs: compiled once, and given to the driver as text.

Building, compiling and running a query through the toolkit takes 0.2 ms and more, the query itself 0.01 ms.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, cast

from sqlalchemy import exc

if TYPE_CHECKING:
    from sqlalchemy import ClauseElement, Connection, Dialect, Engine, Executable, Select
    from sqlalchemy.sql.compiler import SQLCompiler


_Converters: TypeAlias = "Sequence[tuple[int, Callable[[Any], Any]]]"
"""Places of the columns whose values the driver gives otherwise than they are wanted, and what makes these of them."""


@dataclass(frozen=True, slots=True)
class _Compiled:
    text: str
    names: tuple[str, ...] | None
    """Of the parameters in their order; None where the driver takes them by name."""
    values: Mapping[str, Any]
    """Of the parameters that the statement brings with it."""

    def given(self, parameters: Mapping[str, Any]) -> Any:
        """Parameters as the driver takes them."""
        all_of_them = {**self.values, **parameters} if self.values else parameters
        return all_of_them if self.names is None else [all_of_them[name] for name in self.names]


class Prepared:
    """A query whose parameters are text and whole numbers. Thread-safe.

    Parameters
    ----------
    statement : Select
        With named parameters, or values that are always the same.
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
        with as_the_toolkit(engine.dialect):
            connection = engine.raw_connection()
        try:
            return self.run_on(connection, engine.dialect, parameters)
        except exc.DBAPIError as error:
            connection.invalidate(error.orig if isinstance(error.orig, Exception) else None)
            raise
        finally:
            connection.close()

    def run_on(self, connection: Any, dialect: Dialect, parameters: Mapping[str, Any]) -> list[Sequence[Any]]:
        """All rows, by a connection of the driver.

        Raises
        ------
        sqlalchemy.exc.DBAPIError
            As the toolkit does.
        """
        known = self._compiled.get(dialect.name) or self._compile(dialect)
        with as_the_toolkit(dialect, known.text):
            cursor = connection.cursor()
            cursor.execute(known.text, known.given(parameters))
            rows = list(cursor.fetchall())
            columns = cursor.description
        converters = self._converters.get(dialect.name)
        if converters is None:
            converters = self._found_converters(dialect, [column[1] for column in columns or ()])
        return [_converted(row, converters) for row in rows] if converters else rows

    def _compile(self, dialect: Dialect) -> _Compiled:
        compiled = self.statement.compile(dialect=dialect, compile_kwargs={"render_postcompile": True})
        names = tuple(compiled.positiontup) if compiled.positional and compiled.positiontup is not None else None
        values = {name: value for name, value in compiled.params.items() if value is not None}
        with self._lock:
            return self._compiled.setdefault(dialect.name, _Compiled(str(compiled), names, values))

    def _found_converters(self, dialect: Dialect, types: Sequence[Any]) -> _Converters:
        """What makes values of what the driver gives, which says of which type each column is."""
        found = []
        for place, (column, given) in enumerate(zip(self.statement.selected_columns, types, strict=True)):
            convert = column.type.dialect_impl(dialect).result_processor(dialect, given)
            if convert is not None:
                found.append((place, convert))
        with self._lock:
            return self._converters.setdefault(dialect.name, found)


class Repeated:
    """A statement that runs for each instance within a write transaction. Thread-safe.

    On SQLite it goes to the driver as text. On a database server the way there is what costs, and the toolkit goes it.

    Parameters
    ----------
    statement : Executable
        A query, INSERT, UPDATE or DELETE. What it returns is text and whole numbers; its parameters are of any type
        of the schema, and always the same ones.
    """

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._ready: tuple[str, Sequence[_Parameter]] | None = None

    def run(self, connection: Connection, parameters: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """What it returns, all rows.

        Raises
        ------
        sqlalchemy.exc.DBAPIError
            As the toolkit does.
        """
        if connection.dialect.name != "sqlite":
            result = connection.execute(self._statement, parameters)
            return result.all() if result.returns_rows else ()
        text, wanted = self._ready or self._compile(connection.dialect, parameters)
        with as_the_toolkit(connection.dialect, text):
            rows: Sequence[Sequence[Any]] = _driver(connection).execute(text, _given(wanted, parameters)).fetchall()
        return rows

    def run_many(self, connection: Connection, parameters: Sequence[Mapping[str, Any]]) -> None:
        """Run it once for each of these; what it returns is lost."""
        if connection.dialect.name != "sqlite":
            connection.execute(self._statement, parameters)
            return
        text, wanted = self._ready or self._compile(connection.dialect, parameters[0])
        with as_the_toolkit(connection.dialect, text):
            _driver(connection).executemany(text, [_given(wanted, one) for one in parameters])

    def _compile(self, dialect: Dialect, parameters: Mapping[str, Any]) -> tuple[str, Sequence[_Parameter]]:
        statement = cast("ClauseElement", self._statement)
        compiled = cast("SQLCompiler", statement.compile(dialect=dialect, column_keys=list(parameters)))
        wanted = []
        for name in compiled.positiontup or ():
            parameter = compiled.binds[name]
            convert = parameter.type.dialect_impl(dialect).bind_processor(dialect)
            wanted.append(_Parameter(name if parameter.required else None, convert, parameter.value))
        self._ready = str(compiled), wanted
        return self._ready


class _Parameter(NamedTuple):
    """What a place in a statement is filled with."""

    name: str | None
    """None for a constant of the statement."""
    convert: Callable[[Any], Any] | None
    constant: Any


def _given(wanted: Sequence[_Parameter], parameters: Mapping[str, Any]) -> list[Any]:
    values = []
    for name, convert, constant in wanted:
        value = constant if name is None else parameters[name]
        values.append(value if convert is None else convert(value))
    return values


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


@contextmanager
def as_the_toolkit(dialect: Dialect, text: str = "") -> Iterator[None]:
    """Raise what the driver raises as the toolkit does, which is passed by: `sqlalchemy.exc.DBAPIError`."""
    driver = dialect.loaded_dbapi
    try:
        yield
    except driver.Error as error:
        raise exc.DBAPIError.instance(text, None, error, driver.Error, hide_parameters=True, dialect=dialect) from error


def _converted(row: Sequence[Any], converters: _Converters) -> list[Any]:
    values = list(row)
    for place, convert in converters:
        values[place] = convert(values[place])
    return values
