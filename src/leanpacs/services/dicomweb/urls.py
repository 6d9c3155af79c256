"""Where things are to be found: the URLs that answers carry.

References
----------
PS3.18 10.1.1 (resources of the studies service).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import quote


@dataclass(frozen=True, slots=True)
class Urls:
    """URLs of what the archive holds.

    Parameters
    ----------
    service : str
        URL of the DICOMweb service, without a slash at its end.
    """

    service: str

    def study(self, study_uid: str) -> str:
        """Retrieve URL of a study."""
        return f"{self.service}/studies/{_escaped(study_uid)}"

    def series(self, study_uid: str, series_uid: str) -> str:
        """Retrieve URL of a series."""
        return f"{self.study(study_uid)}/series/{_escaped(series_uid)}"

    def instance(self, study_uid: str, series_uid: str, sop_uid: str) -> str:
        """Retrieve URL of an instance."""
        return f"{self.series(study_uid, series_uid)}/instances/{_escaped(sop_uid)}"


@lru_cache(maxsize=4096)
def _escaped(uid: str) -> str:
    return quote(uid, safe="", errors="replace")
