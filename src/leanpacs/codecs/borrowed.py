"""C functions that imagecodecs does not hand on, of the libraries that it brings along.

An extension module of imagecodecs is linked with such a library: a symbol that is looked for in the one is looked for
in the other, too. Calls let other threads go on.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

Pointer: Final = ctypes.c_void_p

Signature = tuple[tuple[Any, ...], Any]
"""Types of the arguments, and of the result; None for no result."""


class Library:
    """A library that an extension module of imagecodecs is linked with; any number of threads may call it at once.

    Parameters
    ----------
    name : str
        What people know it by, for errors.
    extension : str
        The extension module: ``_jpegls``.

    Raises
    ------
    ImportError, OSError
        If the module is not there.
    """

    def __init__(self, name: str, extension: str) -> None:
        self._name = name
        self._library = ctypes.CDLL(import_module(f"imagecodecs.{extension}").__file__)
        self._functions: dict[str, Any] = {}

    def declare(self, prefix: str, functions: Mapping[str, Signature]) -> None:
        """Say what functions take and return; they are called without their prefix.

        Raises
        ------
        AttributeError
            If the library has not all of them.
        """
        for name, (arguments, result) in functions.items():
            self._functions[name] = function = getattr(self._library, prefix + name)
            function.argtypes, function.restype = arguments, result

    def __call__(self, name: str, *arguments: object) -> Any:
        """Call a function; what it returns."""
        return self._functions[name](*arguments)

    def check(self, name: str, *arguments: object) -> None:
        """Call a function that returns 0 when all is well.

        Raises
        ------
        RuntimeError
            If it returns something else.
        """
        error = self(name, *arguments)
        if error:
            raise RuntimeError(f"{self._name}: {name} fails with {error}")
