"""Searching by any attribute: what the catalog does not hold is read from the headers of instances.

The catalog finds candidates by the keys that it knows; their headers tell about the others. Of a study or a series the
first and the last instance are read, and what the two agree on holds for all: that is what makes an attribute one of a
study or a series.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from leanpacs.archive.giveback.matching import Test, matcher
from leanpacs.catalog import Catalog, FoundInstance, InstanceRow, Query, SeriesRow, StudyRow
from leanpacs.errors import DicomError, InvalidQuery, LeanPACSError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

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
    """

    def __init__(self, catalog: Catalog, retriever: Retriever) -> None:
        self._catalog = catalog
        self._retriever = retriever

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
            matching += [found for found in page if self._matches(found, test)]
            if len(page) < _PAGE or (wanted is not None and len(matching) >= wanted):
                return matching[query.offset : wanted]
        names = ", ".join(key.keyword or str(key.tag) for key in keys)
        raise InvalidQuery(names, f"must be read from files, and more than {MOST_READ} are left: narrow the search")

    def expect(self, found: Sequence[Found]) -> None:
        """Look up at once where the headers of all of these are, which are about to be asked for."""
        self._retriever.expect([one.held for one in found if isinstance(one, FoundInstance)])

    def common(self, found: Found, tags: Collection[str] | None = None) -> dict[str, Any]:
        """Elements as DICOM JSON (F.2), as far as the instances of what was found agree on them, without bulk data.

        Parameters
        ----------
        found : StudyRow, SeriesRow or FoundInstance
            What is asked about; of what has to be brought back from an archive class first, nothing is known.
        tags : collection of str, optional
            Which elements; all but those of single frames by default.
        """
        if found.availability != "ONLINE":
            return {}
        models = []
        for row in self._ends(found):
            try:
                models.append(self._retriever.metadata(row, lambda path: path))
            except (DicomError, LeanPACSError):
                return {}  # what cannot be read tells nothing
        first = models[0] if models else {}
        return {
            tag: first[tag]
            for tag in (first.keys() - _OF_FRAMES if tags is None else tags)
            if tag in first
            and not _has_bulk_data(first[tag])
            and all(model.get(tag) == first[tag] for model in models[1:])
        }

    def agreed(self, found: Found, tags: Collection[int]) -> Dataset:
        """Elements with these tags, as far as the instances of what was found agree on them."""
        from pydicom.dataset import Dataset

        try:
            headers = [self._retriever.header(row) for row in self._ends(found)]
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

    def _matches(self, found: Found, test: Test) -> bool:
        """Whether the headers match; one that cannot be read does not."""
        try:
            return all(test(self._retriever.header(row)) for row in self._ends(found))
        except InvalidQuery:
            raise
        except Exception:  # noqa: BLE001 -- a value that the library cannot read matches nothing
            return False

    def _ends(self, found: Found) -> Sequence[InstanceRow]:
        if isinstance(found, FoundInstance):
            return [found.held]
        series_uid = found.series_uid if isinstance(found, SeriesRow) else None
        return self._catalog.ends(study_uid=found.study_uid, series_uid=series_uid)


def _has_bulk_data(element: Mapping[str, Any]) -> bool:
    """Whether an element of DICOM JSON, or one in its items, is given by reference."""
    if "BulkDataURI" in element:
        return True
    items = element.get("Value", ()) if element.get("vr") == "SQ" else ()
    return any(_has_bulk_data(inner) for item in items for inner in item.values())
