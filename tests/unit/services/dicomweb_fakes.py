"""An archive in memory for the tests of the HTTP door, and a client that calls the application in process."""

from __future__ import annotations

import asyncio
import hashlib
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pydicom

from data import Recipe, make_instance
from leanpacs.archive.giveback.ahead import Lookahead
from leanpacs.archive.giveback.cache import DiskCache
from leanpacs.archive.giveback.kept import Kept
from leanpacs.archive.giveback.retrieve import FrameBytes, Part10
from leanpacs.archive.intake.incoming import Incoming, Outcome, Receipt
from leanpacs.archive.status import ArchiveStatus
from leanpacs.catalog import Backlog, FoundInstance, InstanceRow, Query, SeriesRow, Share, StudyRow, Summary
from leanpacs.dicom.attributes import (
    InstanceAttributes,
    PatientAttributes,
    SeriesAttributes,
    StudyAttributes,
)
from leanpacs.errors import (
    FrameNotFound,
    LeanPACSError,
    MissingAttribute,
    UnsupportedTransferSyntax,
)
from leanpacs.refs import Digest
from leanpacs.services.http import HttpOptions, create_app
from leanpacs.telemetry import Metrics

EXPLICIT_LE = "1.2.840.10008.1.2.1"
IMPLICIT_LE = "1.2.840.10008.1.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_LS = "1.2.840.10008.1.2.4.80"
MPEG4 = "1.2.840.10008.1.2.4.102"
NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


class FakeRetriever:
    """Gives back what `FakeArchive.hold` was given."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.native: dict[str, bytes] = {}
        self.held_frames: dict[tuple[str, str], list[bytes | LeanPACSError]] = {}
        self.broken: dict[str, LeanPACSError] = {}
        self.closed: list[str] = []
        self.lookahead = Lookahead()

    def part10(self, row: InstanceRow, transfer_syntax: str | None = None) -> Part10:
        if transfer_syntax in (None, row.transfer_syntax):
            data = self.files[row.sop_uid]
            return Part10(row.transfer_syntax, len(data), self._chunks(row, data))
        if row.sop_uid in self.broken:
            raise self.broken[row.sop_uid]
        if transfer_syntax != EXPLICIT_LE or row.sop_uid not in self.native:
            raise UnsupportedTransferSyntax(transfer_syntax)
        return Part10(EXPLICIT_LE, None, self._chunks(row, self.native[row.sop_uid]))

    def expect(self, rows: Sequence[InstanceRow]) -> None:
        pass

    def length_as_received(self, row: InstanceRow) -> int | None:
        return None

    def syntax_at_hand(self, row: InstanceRow) -> str:
        return row.transfer_syntax

    def soon(self, row: InstanceRow, _transfer_syntax: str, make: Callable[[], Part10]) -> Callable[[], Part10]:
        return make

    def prepare(self, _rows: Sequence[InstanceRow]) -> None:
        pass

    def follow_instance(self, row: InstanceRow, transfer_syntax: str) -> None:
        pass

    def follow_frame(self, row: InstanceRow, number: int, transfer_syntax: str, effort: int = 0) -> None:
        pass

    def frame(self, row: InstanceRow, number: int, transfer_syntax: str | None = None) -> FrameBytes:
        if row.sop_uid in self.broken:
            raise self.broken[row.sop_uid]
        found = self.held_frames.get((row.sop_uid, transfer_syntax or row.transfer_syntax))
        if found is None:
            raise UnsupportedTransferSyntax(transfer_syntax or row.transfer_syntax)
        if number > len(found):
            raise FrameNotFound(number, len(found))
        frame = found[number - 1]
        if isinstance(frame, LeanPACSError):
            raise frame
        return FrameBytes(transfer_syntax or row.transfer_syntax, frame)

    def frames(
        self, row: InstanceRow, numbers: Sequence[int], transfer_syntax: str | None = None, effort: int = 0
    ) -> Iterator[FrameBytes]:
        return (self.frame(row, number, transfer_syntax) for number in numbers)

    def metadata(self, row: InstanceRow, bulk_uri: Callable[[str], str]) -> dict[str, Any]:
        if row.sop_uid in self.broken:
            raise self.broken[row.sop_uid]
        ds = pydicom.dcmread(io.BytesIO(self.files[row.sop_uid]))
        return ds.to_json_dict(bulk_data_element_handler=lambda e: bulk_uri(f"{e.tag:08X}"))

    def bulk_value(self, row: InstanceRow, path: str) -> bytes:
        if path != "00291010":
            raise MissingAttribute(path)
        return b"private value"

    def _chunks(self, row: InstanceRow, data: bytes) -> Iterator[bytes]:
        try:
            for start in range(0, len(data), 1000):
                yield data[start : start + 1000]
        finally:
            self.closed.append(row.sop_uid)


class FakeCatalog:
    """Finds what it was given, and remembers how it was asked."""

    def __init__(self) -> None:
        self.rows: list[InstanceRow] = []
        self.found: list[Any] = []
        self.queries: list[Query] = []
        self.failure: LeanPACSError | None = None

    def instances(
        self, *, study_uid: str | None = None, series_uid: str | None = None, sop_uid: str | None = None
    ) -> list[InstanceRow]:
        wanted = {"study_uid": study_uid, "series_uid": series_uid, "sop_uid": sop_uid}
        return [
            row for row in self.rows if all(uid is None or getattr(row, name) == uid for name, uid in wanted.items())
        ]

    def ends(self, found: Sequence[StudyRow | SeriesRow]) -> dict[tuple[str, str], list[InstanceRow]]:
        held = {}
        for one in found:
            series_uid = one.series_uid if isinstance(one, SeriesRow) else ""
            rows = self.instances(study_uid=one.study_uid, series_uid=series_uid or None)
            held[one.study_uid, series_uid] = [*rows[:1], *rows[1:][-1:]]
        return held

    def find(self, query: Query) -> list[Any]:
        if self.failure:
            raise self.failure
        self.queries.append(query)
        return self.found[query.offset :][: query.limit]

    find_studies = find_series = find_instances = find

    def newest_studies(self, number: int) -> list[StudyRow]:
        return [row for row in self.found if isinstance(row, StudyRow)][:number]

    def backlog(self) -> Backlog:
        if self.failure:
            raise self.failure
        return Backlog(3, 4_000_000, NOON)


class FakeArchive:
    """What the HTTP door needs of an archive."""

    def __init__(self, folder: Path) -> None:
        self.spool_folder = folder
        self.catalog = FakeCatalog()
        self.retriever = FakeRetriever()
        self.cache = Kept(DiskCache(folder / "cache", limit_bytes=0, minimum_free_bytes=0), memory_bytes=0)
        self.landed: list[bytes] = []
        self.batches: list[int] = []
        self.incoming: list[Incoming] = []
        self.outcome = Outcome.STORED
        self.reason = ""
        self.failure: LeanPACSError | None = None
        self.summary = Summary(2, 2, 3, _share("", 5), (_share("CT", 4), _share("MR", 1)), (_share("jpegxl", 5),))
        self.quarantined = 0

    def land_many(self, batch: Sequence[Incoming]) -> list[Receipt]:
        self.batches.append(len(batch))
        self.incoming += batch
        if self.failure:
            raise self.failure
        return [self._land(incoming) for incoming in batch]

    def _land(self, incoming: Incoming) -> Receipt:
        data = incoming.path.read_bytes()
        incoming.path.unlink()
        self.landed.append(data)
        try:
            ds = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
        except pydicom.errors.InvalidDicomError:
            return Receipt(Outcome.QUARANTINED, len(data), reason="it does not read as DICOM")
        uids = ds.SOPClassUID, ds.SOPInstanceUID, ds.StudyInstanceUID, ds.SeriesInstanceUID
        return Receipt(self.outcome, len(data), *map(str, uids), self.reason)

    def hold(self, recipe: Recipe, *, transfer_syntax: str | None = None) -> InstanceRow:
        """Hold an instance; ``transfer_syntax`` other than the recipe's makes it look received in that."""
        data = make_instance(recipe)
        row = InstanceRow(
            id=len(self.catalog.rows) + 1,
            series_id=1,
            study_uid=recipe.study_uid,
            series_uid=recipe.series_uid,
            sop_uid=recipe.sop_uid,
            sop_class=recipe.sop_class,
            transfer_syntax=transfer_syntax or recipe.transfer_syntax,
            number_of_frames=recipe.frames if recipe.frames > 1 else None,
            rows=recipe.rows if recipe.kind != "none" else None,
            columns=recipe.columns if recipe.kind != "none" else None,
            data_set_length=len(data),
            data_set_digest=Digest(hashlib.sha256(data).digest()),
            received_at=NOON,
            sender="",
            door="stow",
            warning="",
            assigned=(),
        )
        self.catalog.rows.append(row)
        self.retriever.files[row.sop_uid] = data
        self.retriever.native[row.sop_uid] = make_instance(replace(recipe, transfer_syntax=EXPLICIT_LE))
        names = [f"frame {n} ".encode() * 100 for n in range(1, recipe.frames + 1)]
        self.retriever.held_frames[row.sop_uid, EXPLICIT_LE] = names
        self.retriever.held_frames[row.sop_uid, row.transfer_syntax] = [b"coded " + name for name in names]
        if row.transfer_syntax == EXPLICIT_LE:
            self.retriever.held_frames[row.sop_uid, EXPLICIT_LE] = names
        return row

    def status(self) -> ArchiveStatus:
        return ArchiveStatus(self.summary, self.catalog.backlog(), self.quarantined, 112_640, 10**12)


def _share(name: str, instances: int) -> Share:
    return Share(
        name,
        instances,
        raw_bytes=instances * 500_000,
        stored_bytes=instances * 150_000,
        raw_head_bytes=instances * 2000,
        raw_frame_bytes=instances * 498_000,
        stored_head_bytes=instances * 300,
        stored_frame_bytes=instances * 149_700,
    )


class Client:
    """Calls the application in process, one request at a time."""

    def __init__(self, archive: FakeArchive, options: HttpOptions | None = None) -> None:
        self.archive = archive
        self.metrics = Metrics()
        self.app = create_app(archive, options, metrics=self.metrics)

    def request(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        async def call() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False, client=("192.0.2.7", 4711))
            async with httpx.AsyncClient(transport=transport, base_url="http://archive.test") as client:
                return await client.request(method, path, **arguments)

        return asyncio.run(call())

    def get(self, path: str, **headers: str) -> httpx.Response:
        """GET below the DICOMweb root; header names with underscores."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.request("GET", f"/dicom-web{path}", headers=fields)

    def store(
        self, parts: Sequence[bytes], *, study: str = "", part_type: str = "application/dicom", **headers: str
    ) -> httpx.Response:
        """POST parts as multipart/related."""
        body = multipart(parts, part_type)
        fields = {"content-type": 'multipart/related; type="application/dicom"; boundary=b0und', **headers}
        path = f"/dicom-web/studies/{study}" if study else "/dicom-web/studies"
        return self.request("POST", path, content=body, headers=fields)


def multipart(parts: Sequence[bytes], part_type: str = "application/dicom") -> bytes:
    """A body of these parts with boundary ``b0und``."""
    head = f"--b0und\r\nContent-Type: {part_type}\r\n\r\n".encode()
    return b"".join(head + part + b"\r\n" for part in parts) + b"--b0und--\r\n"


def parts_of(response: httpx.Response) -> list[SimpleNamespace]:
    """Parts of a multipart answer: header fields and content of each."""
    boundary = response.headers["content-type"].split("boundary=")[1].encode()
    pieces = response.content.split(b"--" + boundary)
    assert pieces[0] == b""
    assert pieces[-1] == b"--\r\n"
    found = []
    for piece in pieces[1:-1]:
        head, content = piece.removeprefix(b"\r\n").split(b"\r\n\r\n", 1)
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        found.append(SimpleNamespace(fields=fields, content=content.removesuffix(b"\r\n")))
    return found


def study_row(number: int = 1, **changes: Any) -> StudyRow:
    """A study that a search finds."""
    patient = PatientAttributes("P1", "", "Doe^Jane", "19700203", "F")
    study = StudyAttributes("20240229", "101112", "A1", "S1", "Thorax", "Ref^Doc", "+0100")
    return replace(StudyRow(f"1.2.{number}", patient, study, ("CT", "SR"), 2, 7, NOON), **changes)


def series_row(number: int = 1) -> SeriesRow:
    """A series that a search finds."""
    study = study_row()
    series = SeriesAttributes(modality="CT", series_number=3, series_description="axial")
    return SeriesRow(study.study_uid, f"1.2.1.{number}", study.patient, study.study, series, 7, NOON)


def found_instance(held: InstanceRow) -> FoundInstance:
    """An instance that a search finds."""
    series = series_row()
    attributes = InstanceAttributes(instance_number=4, rows=32, columns=24, bits_allocated=16)
    return FoundInstance(held, series.patient, series.study, series.series, attributes)
