"""The table of transfer syntaxes."""

from __future__ import annotations

import pytest
from pydicom._uid_dict import UID_dictionary

from leanpacs.dicom import uids
from leanpacs.dicom.uids import TRANSFER_SYNTAXES, transfer_syntax

# PS3.6 Table A-1 of 2026: what the installed dictionary of pydicom does not know yet.
NEWER = {
    "1.2.840.10008.1.2.4.110": ("JPEG XL Lossless", "JPEGXLLossless"),
    "1.2.840.10008.1.2.4.111": ("JPEG XL JPEG Recompression", "JPEGXLJPEGRecompression"),
    "1.2.840.10008.1.2.4.112": ("JPEG XL", "JPEGXL"),
    "1.2.840.10008.1.2.8.1": ("Deflated Image Frame Compression", "DeflatedImageFrameCompression"),
}
REGISTERED = {uid: entry for uid, entry in UID_dictionary.items() if entry[1] == "Transfer Syntax"}


def test_the_table_is_complete_and_names_nothing_else() -> None:
    assert set(TRANSFER_SYNTAXES) == set(REGISTERED) | set(NEWER)


@pytest.mark.parametrize("uid", REGISTERED)
def test_names_are_those_of_the_standard(uid: str) -> None:
    name, _, _, retired, keyword = REGISTERED[uid]
    syntax = transfer_syntax(uid)

    assert syntax.name.replace(" & ", " and ") == name.replace(" & ", " and ")
    assert syntax.keyword == keyword
    assert syntax.retired == (retired == "Retired")
    assert syntax.known


@pytest.mark.parametrize("uid", NEWER)
def test_newer_names_are_those_of_the_standard(uid: str) -> None:
    syntax = transfer_syntax(uid)

    assert (syntax.name, syntax.keyword) == NEWER[uid]
    assert not syntax.retired


def test_encodings() -> None:
    implicit = {uid for uid, syntax in TRANSFER_SYNTAXES.items() if not syntax.explicit_vr}
    big_endian = {uid for uid, syntax in TRANSFER_SYNTAXES.items() if not syntax.little_endian}
    deflated = {uid for uid, syntax in TRANSFER_SYNTAXES.items() if syntax.deflated}

    assert implicit == {uids.IMPLICIT_LE, "1.2.840.10008.1.20"}
    assert big_endian == {uids.EXPLICIT_BE}
    assert deflated == {uids.DEFLATED_LE, "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"}


def test_encapsulation() -> None:
    native = {uid.removeprefix("1.2.840.10008.1.") for uid, s in TRANSFER_SYNTAXES.items() if not s.encapsulated}

    assert native == {
        *("2", "2.1", "2.1.99", "2.2", "20"),
        *("2.4.94", "2.4.95", "2.4.204", "2.4.205"),  # JPIP: no pixel data at all
        *("2.6.1", "2.6.2", "2.7.1", "2.7.2", "2.7.3"),
    }


@pytest.mark.parametrize(
    ("uid", "lossless", "media_type", "extension"),
    [
        (uids.JPEG_BASELINE, False, "image/jpeg", "jpg"),
        (uids.JPEG_LOSSLESS_SV1, True, "image/jpeg", "jpg"),
        (uids.JPEG_LS_NEAR_LOSSLESS, None, "image/jls", "jls"),
        (uids.JPEG_2000_LOSSLESS, True, "image/jp2", "j2k"),
        (uids.JPEG_2000, None, "image/jp2", "j2k"),
        ("1.2.840.10008.1.2.4.92", True, "image/jpx", "j2k"),
        (uids.HTJ2K_LOSSLESS_RPCL, True, "image/jphc", "j2c"),
        (uids.JPEG_XL_LOSSLESS, True, "image/jxl", "jxl"),
        (uids.JPEG_XL_RECOMPRESSION, False, "image/jxl", "jxl"),
        (uids.RLE, True, "image/dicom-rle", "rle"),
        (uids.DEFLATED_FRAME, True, "application/x-deflate", "dfl"),
        (uids.ENCAPSULATED_UNCOMPRESSED, True, "application/octet-stream", "raw"),
        ("1.2.840.10008.1.2.4.100", False, "video/mpeg", "mpg"),
        ("1.2.840.10008.1.2.4.106.1", False, "video/mp4", "mp4"),
        ("1.2.840.10008.1.2.4.108", False, "video/H265", "h265"),
    ],
)
def test_code_streams(uid: str, lossless: bool | None, media_type: str, extension: str) -> None:
    syntax = transfer_syntax(uid)

    assert (syntax.lossless, syntax.media_type, syntax.extension) == (lossless, media_type, extension)


def test_padding_of_a_uid_does_not_matter() -> None:
    assert transfer_syntax("1.2.840.10008.1.2.1\0") is TRANSFER_SYNTAXES[uids.EXPLICIT_LE]
    assert transfer_syntax("1.2.840.10008.1.2 ") is TRANSFER_SYNTAXES[uids.IMPLICIT_LE]


def test_an_unknown_transfer_syntax_is_taken_for_explicit_little_endian() -> None:
    syntax = transfer_syntax("1.3.46.670589.33.1.4.1")

    assert (syntax.uid, syntax.known, syntax.lossless) == ("1.3.46.670589.33.1.4.1", False, None)
    assert (syntax.explicit_vr, syntax.little_endian, syntax.deflated) == (True, True, False)
