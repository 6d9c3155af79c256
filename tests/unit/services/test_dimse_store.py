"""C-STORE: what is in the spool when the archive is called, and that nothing else ever stays there."""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import pytest

from dimse_peer import CT, VERIFICATION, FakeArchive, store_command
from leanpacs import errors
from leanpacs.archive.intake.incoming import Digests, Incoming, Outcome, Receipt
from leanpacs.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from leanpacs.refs import Digest
from leanpacs.services.dimse.message import Command, decode
from leanpacs.services.dimse.negotiation import Context
from leanpacs.services.dimse.store import StoreService
from leanpacs.services.dimse.transport import Disconnected

JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
PRIVATE_SYNTAX = "1.2.840.113619.5.2"


@dataclass
class Sending:
    """Stands for an association that brings a data set in these parts."""

    parts: list[bytes | Exception]
    transfer_syntax: str = EXPLICIT_LE
    abstract_syntax: str = CT
    calling: str = "CT1"
    peer: str = "192.0.2.7"
    contexts: dict[int, Context] = field(init=False)

    def __post_init__(self) -> None:
        self.contexts = {3: Context(3, self.abstract_syntax, self.transfer_syntax)}

    def data_set(self) -> Iterator[memoryview]:
        for part in self.parts:
            if isinstance(part, Exception):
                raise part
            yield memoryview(part)


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    return FakeArchive(tmp_path)


def store(archive: FakeArchive, sending: Sending, command: Command | None = None, **options: int) -> tuple[int, str]:
    service = StoreService(archive, **options)
    reply = service(sending, command or decode(store_command("1.2.3"), 3))  # type: ignore[arg-type]
    return int(reply.status), reply.comment


@pytest.mark.parametrize("syntax", [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE])
def test_data_set_that_tells_its_syntax_lands_as_it_is(archive: FakeArchive, syntax: str) -> None:
    assert store(archive, Sending([b"abc", b"defgh"], transfer_syntax=syntax)) == (0, "")
    (kept,) = archive.kept
    assert kept.data == b"abcdefgh"
    incoming = kept.incoming
    assert (incoming.sender, incoming.door, incoming.transfer_syntax) == ("CT1", "dimse", syntax)
    assert (incoming.name, incoming.sop_class, incoming.sop_uid) == ("1.2.3", CT, "1.2.3")
    digest = Digest.of(kept.data)
    assert incoming.digests == Digests(0, digest, digest)
    assert archive.spooled == []


def test_other_files_say_what_they_are(archive: FakeArchive) -> None:
    assert store(archive, Sending([b"abc", b"defgh"], transfer_syntax=JPEG_LOSSLESS)) == (0, "")
    (kept,) = archive.kept
    meta = pydicom.dcmread(io.BytesIO(kept.data[:-8])).file_meta
    assert kept.data.endswith(b"abcdefgh")
    assert meta.FileMetaInformationGroupLength == len(kept.data) - 8 - 132 - 12
    assert meta.MediaStorageSOPClassUID == CT
    assert meta.MediaStorageSOPInstanceUID == "1.2.3"
    assert meta.TransferSyntaxUID == JPEG_LOSSLESS
    assert meta.SourceApplicationEntityTitle == "CT1"
    assert meta.ImplementationClassUID.is_valid
    assert kept.incoming.digests == Digests(len(kept.data) - 8, Digest.of(kept.data), Digest.of(b"abcdefgh"))
    assert archive.spooled == []


def test_file_meta_of_a_private_syntax_and_class(archive: FakeArchive) -> None:
    sending = Sending([b"x"], transfer_syntax=PRIVATE_SYNTAX, abstract_syntax="1.2.840.113619.4.26")
    command = decode(store_command("1.2.3", sop_class="1.2.840.113619.4.26"), 3)
    assert store(archive, sending, command) == (0, "")
    meta = pydicom.dcmread(io.BytesIO(archive.kept[0].data[:-1])).file_meta
    assert (meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID) == (PRIVATE_SYNTAX, "1.2.840.113619.4.26")
    assert archive.kept[0].incoming.transfer_syntax == PRIVATE_SYNTAX


def test_command_without_uids(archive: FakeArchive) -> None:
    """The data set knows its UIDs; that the command lacks them is no reason to lose it."""
    bare = Command(3, {0x0100: b"\1\0", 0x0800: b"\0\0"})
    assert store(archive, Sending([b"x"]), bare) == (0, "")
    incoming = archive.kept[0].incoming
    assert (incoming.sop_class, incoming.sop_uid) == (CT, "")


def test_uids_that_are_none(archive: FakeArchive) -> None:
    hostile = Command(3, {0x0100: b"\1\0", 0x0800: b"\0\0", 0x0002: b"\xff\xfe", 0x1000: b"../../etc/passwd"})
    assert store(archive, Sending([b"x"]), hostile) == (0, "")
    assert archive.kept[0].incoming.path.parent == archive.spool_folder


@pytest.mark.parametrize("abstract_syntax", [VERIFICATION, "1.2.840.10008.5.1.4.1.2.1.1"])
def test_context_that_is_not_for_storage(archive: FakeArchive, abstract_syntax: str) -> None:
    assert store(archive, Sending([b"x"], abstract_syntax=abstract_syntax))[0] == 0x0122
    assert archive.kept == []


def test_command_without_a_data_set(archive: FakeArchive) -> None:
    command = Command(3, {0x0100: b"\1\0", 0x0800: b"\1\1"})
    assert store(archive, Sending([]), command) == (0xC000, "C-STORE without a data set")


def test_instance_that_is_too_large(archive: FakeArchive) -> None:
    sending = Sending([b"x" * 1000] * 3)
    assert store(archive, sending, largest_instance_bytes=2999) == (0xA700, "larger than this archive takes")
    assert store(archive, sending, largest_instance_bytes=3000) == (0, "")
    assert archive.spooled == []


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.StoreFull("too much waits to be settled"), 0xA700),
        (errors.CatalogUnavailable("the catalog is locked"), 0x0110),
        (errors.StoreUnavailable("the disk is gone"), 0x0110),
        (RuntimeError("a bug"), 0x0110),
        (OSError(errno.EIO, "Input/output error"), 0xA700),
    ],
    ids=lambda value: type(value).__name__,
)
def test_archive_fails(archive: FakeArchive, error: Exception, status: int) -> None:
    def fail(incoming: Incoming) -> Receipt:
        assert incoming.path.exists()
        raise error

    archive.answer = fail
    assert store(archive, Sending([b"x"]))[0] == status
    assert archive.spooled == []


@pytest.mark.parametrize(
    ("receipt", "status"),
    [
        (Receipt(Outcome.STORED, 1, sop_class=CT, sop_uid="1.2.3"), 0x0000),
        (Receipt(Outcome.DUPLICATE, 1, sop_class=CT, sop_uid="1.2.3"), 0x0000),
        (Receipt(Outcome.REFUSED, 1, sop_class=CT, sop_uid="1.2.3", reason="other bytes"), 0x0111),
        (Receipt(Outcome.QUARANTINED, 1, reason="not DICOM"), 0xC000),
        (Receipt(Outcome.STORED, 1, sop_class=CT, sop_uid="1.2.4"), 0xA900),
    ],
)
def test_receipts(archive: FakeArchive, receipt: Receipt, status: int) -> None:
    archive.answer = lambda _: receipt
    assert store(archive, Sending([b"x"]))[0] == status


def test_disk_that_is_full_while_the_data_set_arrives(archive: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write

    def full(descriptor: int, data: bytes | memoryview) -> int:
        if len(data) == 1000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    assert store(archive, Sending([b"x" * 1000])) == (0xA700, "No space left on device")
    assert archive.spooled == []
    assert archive.kept == []


def test_short_writes_are_continued(archive: FakeArchive, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    assert store(archive, Sending([b"abcdefgh"])) == (0, "")
    assert archive.kept[0].data.endswith(b"abcdefgh")


def test_no_spool_folder(archive: FakeArchive) -> None:
    archive.spool_folder = archive.spool_folder / "missing"
    assert store(archive, Sending([b"x"]))[0] == 0xA700


def test_peer_that_dies_leaves_no_file(archive: FakeArchive) -> None:
    with pytest.raises(Disconnected):
        store(archive, Sending([b"x" * 100, Disconnected("gone")]))
    assert archive.spooled == []
    assert archive.kept == []
