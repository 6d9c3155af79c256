"""Searching by any attribute: what the catalog does not hold is read from the headers of instances.

The catalog finds candidates by the keys that it knows; their headers tell about the others. Of a study or a series the
first and the last instance are read, and what the two agree on holds for all: that is what makes an attribute one of a
study or a series.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import orjson

from leanpacs import __version__
from leanpacs.archive.giveback.matching import Test, matcher
from leanpacs.catalog import Catalog, FoundInstance, InstanceRow, Query, SeriesRow, StudyRow
from leanpacs.errors import InvalidQuery, LeanPACSError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

    from leanpacs.archive.giveback.kept import Kept
    from leanpacs.archive.giveback.retrieve import Retriever

Found = StudyRow | SeriesRow | FoundInstance
"""What a search finds."""

MOST_READ: Final = 5000
"""Candidates whose headers one search may read."""
_PAGE: Final = 500
_OF_FRAMES: Final = frozenset({"52009230"})
"""Per-Frame Functional Groups Sequence, thousands of items in a whole slide image."""


class Searcher:
    """Searches an archive. Thread-safe.

    Parameters
    ----------
    catalog : Catalog
        What is searched first.
    retriever : Retriever
        Gives headers.
    cache : Kept, optional
        Where what instances have in common is kept.
    """

    def __init__(self, catalog: Catalog, retriever: Retriever, cache: Kept | None = None) -> None:
        self._catalog = catalog
        self._retriever = retriever
        self._cache = cache

    def find(self, query: Query, keys: Dataset | None = None) -> Sequence[Found]:
        """Studies, series or instances that match a query and further keys.

        Parameters
        ----------
        query : Query
            For the catalog.
        keys : Dataset, optional
            Matching keys of attributes that the catalog does not hold, sequences with one item.

        Raises
        ------
        InvalidQuery
            A key cannot be matched, or too many headers would have to be read.
        """
        if not keys:
            return self._candidates(query)
        test = matcher(keys)
        wanted = None if query.limit is None else query.offset + query.limit
        matching: list[Found] = []
        for start in range(0, MOST_READ, _PAGE):
            page = self._candidates(replace(query, offset=start, limit=_PAGE))
            matching += [found for found, rows in zip(page, self._ends(page), strict=True) if self._matches(rows, test)]
            if len(page) < _PAGE or (wanted is not None and len(matching) >= wanted):
                return matching[query.offset : wanted]
        names = ", ".join(key.keyword or str(key.tag) for key in keys)
        raise InvalidQuery(names, f"must be read from files, and more than {MOST_READ} are left: narrow the search")

    def common(self, found: Sequence[Found], tags: Collection[str] | None = None) -> Iterator[dict[str, Any]]:
        """Elements as DICOM JSON (F.2), as far as the instances of what was found agree on them, without bulk data.

        Parameters
        ----------
        found : sequence of StudyRow, SeriesRow or FoundInstance
            All of one kind; of what has to be brought back from an archive class first, nothing is known.
        tags : collection of str, optional
            Which elements; all but those of single frames by default.

        Yields
        ------
        dict
            For each that was found, in order.
        """
        ends = self._ends(found)
        read = [
            row
            for one, rows in zip(found, ends, strict=True)
            if one.availability == "ONLINE" and not self._is_kept(one, rows)
            for row in rows
        ]
        self._retriever.expect(read)
        for one, rows in zip(found, ends, strict=True):
            model = self._common(one, rows) if rows and one.availability == "ONLINE" else {}
            yield model if tags is None else {tag: model[tag] for tag in tags if tag in model}

    def make_ready(self, query: Query) -> None:
        """Make what :meth:`common` gives of the studies or series that match, before anybody asks."""
        for _ in self.common(self._candidates(query)):
            pass

    def _common(self, found: Found, rows: Sequence[InstanceRow]) -> dict[str, Any]:
        """What the instances of something found have in common; that of studies and series is kept."""
        try:
            if self._cache is None or isinstance(found, FoundInstance):
                return self._shared(rows)
            kept = self._cache.fetch(_key(rows), lambda: orjson.dumps(self._shared(rows)))
        except LeanPACSError:
            return {}  # what cannot be read tells nothing
        common: dict[str, Any] = orjson.loads(kept)
        return common

    def _is_kept(self, found: Found, rows: Sequence[InstanceRow]) -> bool:
        return self._cache is not None and not isinstance(found, FoundInstance) and self._cache.has(_key(rows))

    def _shared(self, rows: Sequence[InstanceRow]) -> dict[str, Any]:
        first, *others = (self._retriever.metadata(row, lambda path: path) for row in rows)
        return {
            tag: element
            for tag, element in first.items()
            if tag not in _OF_FRAMES
            and not _has_bulk_data(element)
            and all(other.get(tag) == element for other in others)
        }

    def agreed(self, found: Found, tags: Collection[int]) -> Dataset:
        """Elements with these tags, as far as the instances of what was found agree on them."""
        from pydicom.dataset import Dataset

        try:
            headers = [self._retriever.header(row) for row in self._ends([found])[0]]
        except LeanPACSError:
            headers = []  # what cannot be read tells nothing
        agreed = Dataset()
        for tag in tags:
            if headers and all(tag in one and one[tag] == headers[0][tag] for one in headers):
                agreed.add(headers[0][tag])
        return agreed

    def _candidates(self, query: Query) -> Sequence[Found]:
        if query.level == "study":
            return self._catalog.find_studies(query)
        if query.level == "series":
            return self._catalog.find_series(query)
        return self._catalog.find_instances(query)

    def _matches(self, rows: Sequence[InstanceRow], test: Test) -> bool:
        """Whether the headers of instances match; one that cannot be read does not."""
        try:
            return all(test(self._retriever.header(row)) for row in rows)
        except InvalidQuery:
            raise
        except Exception:  # noqa: BLE001 -- a value that the library cannot read matches nothing
            return False

    def _ends(self, found: Sequence[Found]) -> list[Sequence[InstanceRow]]:
        """The first and the last instance of each that was found."""
        above = [one for one in found if not isinstance(one, FoundInstance)]
        held = self._catalog.ends(above) if above else {}
        return [
            [one.held]
            if isinstance(one, FoundInstance)
            else held.get((one.study_uid, one.series_uid if isinstance(one, SeriesRow) else ""), [])
            for one in found
        ]


def _key(rows: Sequence[InstanceRow]) -> str:
    """Under which what instances have in common is kept: it changes when they do."""
    digest = hashlib.sha256(f"common {__version__}\n".encode())
    for row in rows:
        digest.update(row.data_set_digest.raw)
    return digest.hexdigest()[:40]


def _has_bulk_data(element: Mapping[str, Any]) -> bool:
    """Whether an element of DICOM JSON, or one in its items, is given by reference."""
    if "BulkDataURI" in element:
        return True
    items = element.get("Value", ()) if element.get("vr") == "SQ" else ()
    return any(_has_bulk_data(inner) for item in items for inner in item.values())
