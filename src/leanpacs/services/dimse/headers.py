"""Keys of a query that the catalog does not hold: matched in the headers of instances, and returned from them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol

from leanpacs.archive.giveback.matching import answer, matcher, texts
from leanpacs.catalog import FoundInstance, Query, SeriesRow, StudyRow
from leanpacs.errors import InvalidQuery

if TYPE_CHECKING:
    from pydicom.dataelem import DataElement
    from pydicom.dataset import Dataset

log = logging.getLogger(__name__)

_NUMBERS: Final = frozenset({"US", "SS", "UL", "SL"})


class InHeaders(Protocol):
    """Searches headers."""

    def find(self, query: Query, keys: Dataset | None = None) -> Sequence[StudyRow | SeriesRow | FoundInstance]:
        """What matches a query of the catalog, and further keys; raises `InvalidQuery` if too much had to be read."""
        ...

    def agreed(self, found: Any, tags: Collection[int]) -> Dataset:
        """Elements that the instances of what was found agree on."""
        ...


class HeaderKeys:
    """The keys of one query that are looked for in headers.

    Parameters
    ----------
    identifier : Dataset
        All keys of the query.
    tags : collection of int
        Those that the catalog does not hold.

    Raises
    ------
    InvalidQuery
        A key's value is not understood.
    """

    def __init__(self, identifier: Dataset, tags: Collection[int]) -> None:
        from pydicom.dataset import Dataset

        self._tags = tags
        self._keys = Dataset()
        for tag in tags:
            self._keys.add(identifier[tag])
        matcher(self._keys)  # says what is wrong with them, before anything is searched
        self._restricts = any(map(_restricts, self._keys))

    def restrict(
        self, headers: InHeaders, query: Query, otherwise: Callable[[], Iterable[Any]]
    ) -> tuple[Iterable[Any], bool]:
        """What matches these keys, too, and whether they were matched: not when too many headers had to be read."""
        if not self._restricts:
            return otherwise(), True
        try:
            return headers.find(query, self._keys), True
        except InvalidQuery as error:
            log.warning("keys not matched: %s", error, extra={"action": "query"})
            return otherwise(), False

    def completed(self, headers: InHeaders, found: Any, elements: Iterable[tuple[int, str, str]]) -> Dataset:
        """An answer: elements from the catalog, given as tag, VR and text, and these keys from headers."""
        from pydicom.dataelem import DataElement

        made = answer(self._keys, headers.agreed(found, self._tags))
        for tag, vr, text in elements:
            value = [int(number) for number in text.split("\\") if number] if vr in _NUMBERS else text
            made.add(DataElement(tag, vr, value or None, validation_mode=0))
        return made


def _restricts(key: DataElement) -> bool:
    """Whether a key asks for more than to be returned."""
    if key.VR == "SQ":
        return any(_restricts(inner) for item in key.value[:1] for inner in item)
    return any(text.strip("*") for text in texts(key))
