"""File meta information, and heads read."""

from __future__ import annotations

import io

import pydicom
import pytest

import encoded
from data import EXPLICIT_LE, IMPLICIT_LE
from encoded import BIG, EXPLICIT, IMPLICIT
from leanpacs.dicom.instance import scan
from leanpacs.dicom.write import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION_NAME, file_meta, read_head

_ENCODINGS = pytest.mark.parametrize("encoding", [EXPLICIT, IMPLICIT, BIG], ids=["explicit", "implicit", "big"])


class TestFileMeta:
    def test_pydicom_reads_it(self) -> None:
        file = file_meta("1.2.840.10008.5.1.4.1.1.2", "1.2.3", EXPLICIT_LE, "SENDER")
        meta = pydicom.dcmread(io.BytesIO(file)).file_meta
        assert meta.MediaStorageSOPClassUID == "1.2.840.10008.5.1.4.1.1.2"
        assert meta.MediaStorageSOPInstanceUID == "1.2.3"
        assert meta.TransferSyntaxUID == EXPLICIT_LE
        assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
        assert meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
        assert meta.SourceApplicationEntityTitle == "SENDER"
        assert meta.FileMetaInformationVersion == b"\0\1"
        assert 128 + 4 + 12 + meta.FileMetaInformationGroupLength == len(file)

    def test_an_unknown_sender_is_left_out(self) -> None:
        file = file_meta("1.2", "1.2.3", IMPLICIT_LE)
        assert "SourceApplicationEntityTitle" not in pydicom.dcmread(io.BytesIO(file)).file_meta

    def test_our_own_uid_and_name_are_valid(self) -> None:
        assert pydicom.uid.UID(IMPLEMENTATION_CLASS_UID).is_valid
        assert IMPLEMENTATION_CLASS_UID.startswith("2.25.")
        assert len(IMPLEMENTATION_VERSION_NAME) <= 16

    def test_any_text_makes_a_file(self) -> None:
        layout = scan(io.BytesIO(file_meta("käse", "1.2.3", EXPLICIT_LE) + EXPLICIT.element(0x00080060, "CS", b"CT")))
        assert layout.elements[0x00020002].value == b"k?se"


@_ENCODINGS
def test_a_head_is_read_without_its_pixel_data(encoding: encoded.Encoding) -> None:
    head = encoding.element(0x00280010, "US", encoding.pack("H", 515)) + encoding.header(0x7FE00010, "OW", 512)
    ds = read_head(head, implicit_vr=encoding.implicit, little_endian=encoding.little)
    assert (list(ds.keys()), ds.Rows) == ([0x00280010], 515)


@_ENCODINGS
def test_of_a_head_only_some_groups_are_read(encoding: encoded.Encoding) -> None:
    name = encoding.element(0x00100010, "PN", b"NAME")
    head = name + encoding.element(0x00280010, "US", encoding.pack("H", 515)) + encoding.header(0x7FE00010, "OW", 512)
    ds = read_head(head, implicit_vr=encoding.implicit, little_endian=encoding.little, groups={0x0028})
    assert (list(ds.keys()), ds.Rows) == ([0x00280010], 515)


def test_all_of_a_head_is_read_that_is_damaged() -> None:
    head = EXPLICIT.element(0x00100010, "PN", b"NAME") + EXPLICIT.header(0x00280010, "US", 2)
    assert read_head(head, implicit_vr=False, little_endian=True, groups={0x0028}).PatientName == "NAME"
