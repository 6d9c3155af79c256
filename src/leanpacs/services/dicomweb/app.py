"""The DICOMweb service: its resources, and what answers for them.

References
----------
PS3.18 10.1.1 (resources of the studies service).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from starlette.responses import Response

from leanpacs.archive.giveback.searching import Searcher
from leanpacs.errors import InstanceNotFound
from leanpacs.services.access.caller import actor_of
from leanpacs.services.cargo import cargo_of
from leanpacs.services.dicomweb import bulk, capabilities, dictionary, documents, qido, resources, stow, wado, wadouri
from leanpacs.services.dicomweb import frames as pixels
from leanpacs.services.dicomweb import rendered as looks
from leanpacs.services.dicomweb.noting import NotingLander, noting
from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.dicomweb.stow import StoreLimits
from leanpacs.services.dicomweb.urls import Urls
from leanpacs.services.origin import origin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from starlette.requests import Request

    from leanpacs.archive.archive import Archive
    from leanpacs.archive.giveback.retrieve import Retriever
    from leanpacs.catalog import InstanceRow
    from leanpacs.services.operations import Answer, Operation
    from leanpacs.services.threads import Threads
    from leanpacs.telemetry import Metrics

_UID: Final = re.compile(r"[!-~]{1,128}")
_LONGEST_REASON: Final = 200


@dataclass(frozen=True, slots=True)
class DicomWebOptions:
    """Limits and addresses of the service.

    Attributes
    ----------
    root : str
        Path at which it is mounted.
    public_url : str
        Scheme and authority for the URLs in answers; '': as the client says.
    max_results : int
        Most results of one search.
    largest_instance_bytes : int
        Larger instances are refused.
    idle_seconds : float
        A store request of which nothing comes for longer is given up.
    deleting : bool
        Whether DELETE is answered.
    """

    root: str = "/dicom-web"
    public_url: str = ""
    max_results: int = 1000
    largest_instance_bytes: int = 64 << 30
    idle_seconds: float = 120.0
    deleting: bool = False


class DicomWeb:
    """Answers DICOMweb requests from an archive.

    Parameters
    ----------
    archive : Archive
        Open; not closed here.
    options : DicomWebOptions
        Limits and addresses.
    reading, storing : Threads
        Where the archive is called; apart, so that senders who have to wait do not keep readers waiting.
    metrics : Metrics, optional
        Where received instances are counted.
    """

    def __init__(
        self,
        archive: Archive,
        options: DicomWebOptions,
        reading: Threads,
        storing: Threads,
        metrics: Metrics | None = None,
    ) -> None:
        self._archive = archive
        self._searcher = Searcher(archive.catalog, archive.retriever, archive.cache)
        self._options = options
        self._reading = reading
        self._storing = storing
        self._metrics = metrics

    def operations(self) -> list[Operation]:
        """Return all operations with their full paths."""
        below = [operation.below(self._options.root) for operation in resources.operations(self)]
        # What needs no more of the request than its header is answered in one thread.
        return [
            *(
                replace(operation, threads=self._reading) if operation.method == "GET" else operation
                for operation in (*below, resources.uri_service(self))
            ),
            dictionary.operation(self._options.root),
        ]

    async def capabilities(self, request: Request) -> Response:
        """Answer what the service can do (PS3.18 8.9)."""
        return capabilities.described(request, resources.operations(self), self._urls(request))

    async def store(self, request: Request) -> Response:
        """Answer a store request (PS3.18 10.5)."""
        _check_uids(request)
        return await stow.store(
            request,
            NotingLander(self._archive, cargo_of(request.scope)),
            self._storing,
            self._urls(request),
            limits=StoreLimits(self._options.largest_instance_bytes, self._options.idle_seconds),
            metrics=self._metrics,
        )

    async def instances(self, request: Request) -> Response:
        """Answer for a study, a series or an instance as Part 10 files (PS3.18 10.4)."""
        rows = await self._rows(request)
        return await wado.instances(request, rows, self._retriever(request), self._reading, self._urls(request))

    async def metadata(self, request: Request) -> Response:
        """Answer for the metadata of a study, a series or an instance (PS3.18 10.4)."""
        rows = await self._rows(request)
        return await wado.metadata(request, rows, self._archive, self._reading, self._urls(request))

    async def uri(self, request: Request) -> Response:
        """Answer a request of the URI service (PS3.18 9)."""
        uids = wadouri.named(request)
        rows = await self._held(request, uids)
        return await wadouri.retrieve(request, rows[0], self._retriever(request), self._reading, self._urls(request))

    async def frames(self, request: Request) -> Response:
        """Answer for frames (PS3.18 10.4)."""
        numbers = pixels.frame_numbers(request.path_params["frames"])
        return await pixels.frames(request, await self._source(request), numbers)

    async def bulk_data(self, request: Request) -> Response:
        """Answer for a BulkDataURI (PS3.18 10.4)."""
        return await pixels.bulk_data(request, await self._source(request), request.path_params["path"].rstrip("/"))

    async def all_bulk_data(self, request: Request) -> Response:
        """Answer for all bulk data of a study, a series or an instance (PS3.18 10.4.1.1.5)."""
        return await self._all_of(request, pixels_only=False)

    async def pixel_data(self, request: Request) -> Response:
        """Answer for all pixels of a study, a series or an instance (PS3.18 10.4.1.1.7)."""
        return await self._all_of(request, pixels_only=True)

    async def _all_of(self, request: Request, *, pixels_only: bool) -> Response:
        rows, retriever, urls = await self._rows(request), self._retriever(request), self._urls(request)
        return await bulk.bulk_data(request, rows, retriever, self._reading, urls, pixels_only=pixels_only)

    async def rendered(self, request: Request) -> Response:
        """Answer with images of frames, with a video, or with documents (PS3.18 10.4.1.1.3)."""
        rows = await self._rows(request)
        if len(rows) == 1 and pixels.is_video(rows[0]):
            return await pixels.video(request, await self._source(request))
        if "frames" not in request.path_params and documents.wanted(request, rows, looks.IMAGES):
            retriever, urls = self._retriever(request), self._urls(request)
            return await documents.documents(request, rows, retriever, self._reading, urls)
        return await looks.rendered(request, self._pictures(request, rows), self._retriever(request), self._reading)

    async def thumbnail(self, request: Request) -> Response:
        """Answer with a small image (PS3.18 10.4.1.1.4)."""
        shown = self._pictures(request, await self._rows(request))
        return await looks.thumbnail(request, shown, self._retriever(request), self._reading)

    def _pictures(self, request: Request, rows: Sequence[InstanceRow]) -> list[looks.Pictures]:
        text = request.path_params.get("frames")
        numbers = None if text is None else pixels.frame_numbers(text)
        return looks.pictures(rows, self._urls(request), numbers)

    async def delete(self, request: Request) -> Response:
        """Delete a study, a series or an instance; the catalog first, the bytes after a grace period."""
        _check_uids(request)
        if not self._options.deleting:
            raise Problem(403, "Nothing is deleted over HTTP here, unless the setting http.deleting is true.")
        uids = request.path_params
        await self._storing.run(
            self._archive.deleter().delete,
            study_uid=uids["study"],
            series_uid=uids.get("series"),
            sop_uid=uids.get("instance"),
            actor=actor_of(request.scope),
            reason=request.query_params.get("reason", "asked for over DICOMweb")[:_LONGEST_REASON],
        )
        return Response(status_code=204)

    def search(self, level: qido.Level) -> Answer:
        """Return what answers a search of a level (PS3.18 10.6)."""

        async def search(request: Request) -> Response:
            _check_uids(request)
            return await qido.search(
                request,
                level,
                self._searcher,
                self._reading,
                self._urls(request),
                max_results=self._options.max_results,
            )

        return search

    async def _rows(self, request: Request) -> list[InstanceRow]:
        """Return the instances that the path names, in the order of the series; at least one."""
        _check_uids(request)
        return await self._held(request, request.path_params)

    async def _held(self, request: Request, uids: Mapping[str, str]) -> list[InstanceRow]:
        rows = await self._reading.run(
            self._archive.catalog.instances,
            study_uid=uids["study"],
            series_uid=uids.get("series"),
            sop_uid=uids.get("instance"),
        )
        if not rows:
            raise InstanceNotFound(uids.get("instance") or uids.get("series") or uids["study"])
        self._archive.retriever.prepare(rows)
        cargo = cargo_of(request.scope)
        cargo.modality, cargo.study_uid = rows[0].modality, rows[0].study_uid
        return rows

    def _retriever(self, request: Request) -> Retriever:
        """The archive's, which notes for the traffic ledger what this request is given."""
        return noting(self._archive.retriever, cargo_of(request.scope))

    async def _source(self, request: Request) -> pixels.Source:
        rows = await self._rows(request)
        return pixels.Source(rows[0], self._retriever(request), self._reading, self._urls(request))

    def _urls(self, request: Request) -> Urls:
        return Urls(origin(request, self._options.public_url) + self._options.root)


def _check_uids(request: Request) -> None:
    """Turn away what cannot be a UID. Some senders break the rules for UIDs; what they sent is held."""
    for level in ("study", "series", "instance"):
        if level in request.path_params and not _UID.fullmatch(request.path_params[level]):
            raise Problem(
                400, f"{request.path_params[level]!r} in the path is no {level} UID, such as 1.2.840.10008.1.2."
            )
