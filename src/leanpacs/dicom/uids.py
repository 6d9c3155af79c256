"""The transfer syntaxes of PS3.6 Annex A and their properties (PS3.5 10 and Annex A)."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

IMPLICIT_LE: Final = "1.2.840.10008.1.2"
EXPLICIT_LE: Final = "1.2.840.10008.1.2.1"
ENCAPSULATED_UNCOMPRESSED: Final = "1.2.840.10008.1.2.1.98"
DEFLATED_LE: Final = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE: Final = "1.2.840.10008.1.2.2"
JPEG_BASELINE: Final = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED: Final = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS: Final = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS_SV1: Final = "1.2.840.10008.1.2.4.70"
JPEG_LS_LOSSLESS: Final = "1.2.840.10008.1.2.4.80"
JPEG_LS_NEAR_LOSSLESS: Final = "1.2.840.10008.1.2.4.81"
JPEG_2000_LOSSLESS: Final = "1.2.840.10008.1.2.4.90"
JPEG_2000: Final = "1.2.840.10008.1.2.4.91"
JPEG_2000_MC_LOSSLESS: Final = "1.2.840.10008.1.2.4.92"
JPEG_2000_MC: Final = "1.2.840.10008.1.2.4.93"
JPEG_XL_LOSSLESS: Final = "1.2.840.10008.1.2.4.110"
JPEG_XL_RECOMPRESSION: Final = "1.2.840.10008.1.2.4.111"
JPEG_XL: Final = "1.2.840.10008.1.2.4.112"
HTJ2K_LOSSLESS: Final = "1.2.840.10008.1.2.4.201"
HTJ2K_LOSSLESS_RPCL: Final = "1.2.840.10008.1.2.4.202"
HTJ2K: Final = "1.2.840.10008.1.2.4.203"
RLE: Final = "1.2.840.10008.1.2.5"
DEFLATED_FRAME: Final = "1.2.840.10008.1.2.8.1"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSyntax:
    """What a transfer syntax UID says about a data set.

    Parameters
    ----------
    uid, keyword, name : str
        As in PS3.6 Table A-1.
    encapsulated : bool
        Top-level Pixel Data is a sequence of fragments.
    little_endian, explicit_vr : bool
        Encoding of the data set.
    deflated : bool
        What follows the file meta information is deflated as a whole.
    lossless : bool or None
        True where code streams are lossless by definition, False where they never are, None where only the
        code stream tells.
    media_type : str
        Of one frame, or of the whole video, as bulk data (PS3.18 Table 8.7.3-5).
    extension : str
        File name extension of the code stream, without the dot.
    retired : bool
        Retired from the standard; still read.
    known : bool
        False for private and future UIDs, whose other properties are assumed.
    """

    uid: str
    keyword: str
    name: str
    encapsulated: bool
    little_endian: bool = True
    explicit_vr: bool = True
    deflated: bool = False
    lossless: bool | None
    media_type: str = "application/octet-stream"
    extension: str = "raw"
    retired: bool = False
    known: bool = True


def transfer_syntax(uid: str) -> TransferSyntax:
    """Properties of a transfer syntax.

    An unknown UID is taken for explicit VR little endian, as PS3.5 10 asks of all new ones; whether its Pixel
    Data is encapsulated only the data set tells.
    """
    uid = uid.strip(" \0")
    known = TRANSFER_SYNTAXES.get(uid)
    if known is not None:
        return known
    return TransferSyntax(uid=uid, keyword="", name=uid, encapsulated=False, lossless=None, known=False)


# UID after 1.2.840.10008.1., keyword, name; one table per kind of code stream
_JPEG_LOSSY = """
2.4.50 JPEGBaseline8Bit JPEG Baseline (Process 1)
2.4.51 JPEGExtended12Bit JPEG Extended (Process 2 & 4)
"""
_JPEG_LOSSLESS = """
2.4.57 JPEGLossless JPEG Lossless, Non-Hierarchical (Process 14)
2.4.70 JPEGLosslessSV1 JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])
"""
_JPEG_RETIRED_LOSSY = """
2.4.52 JPEGExtended35 JPEG Extended (Process 3 & 5)
2.4.53 JPEGSpectralSelectionNonHierarchical68 JPEG Spectral Selection, Non-Hierarchical (Process 6 & 8)
2.4.54 JPEGSpectralSelectionNonHierarchical79 JPEG Spectral Selection, Non-Hierarchical (Process 7 & 9)
2.4.55 JPEGFullProgressionNonHierarchical1012 JPEG Full Progression, Non-Hierarchical (Process 10 & 12)
2.4.56 JPEGFullProgressionNonHierarchical1113 JPEG Full Progression, Non-Hierarchical (Process 11 & 13)
2.4.59 JPEGExtendedHierarchical1618 JPEG Extended, Hierarchical (Process 16 & 18)
2.4.60 JPEGExtendedHierarchical1719 JPEG Extended, Hierarchical (Process 17 & 19)
2.4.61 JPEGSpectralSelectionHierarchical2022 JPEG Spectral Selection, Hierarchical (Process 20 & 22)
2.4.62 JPEGSpectralSelectionHierarchical2123 JPEG Spectral Selection, Hierarchical (Process 21 & 23)
2.4.63 JPEGFullProgressionHierarchical2426 JPEG Full Progression, Hierarchical (Process 24 & 26)
2.4.64 JPEGFullProgressionHierarchical2527 JPEG Full Progression, Hierarchical (Process 25 & 27)
"""
_JPEG_RETIRED_LOSSLESS = """
2.4.58 JPEGLosslessNonHierarchical15 JPEG Lossless, Non-Hierarchical (Process 15)
2.4.65 JPEGLosslessHierarchical28 JPEG Lossless, Hierarchical (Process 28)
2.4.66 JPEGLosslessHierarchical29 JPEG Lossless, Hierarchical (Process 29)
"""
_MPEG2 = """
2.4.100 MPEG2MPML MPEG2 Main Profile / Main Level
2.4.100.1 MPEG2MPMLF Fragmentable MPEG2 Main Profile / Main Level
2.4.101 MPEG2MPHL MPEG2 Main Profile / High Level
2.4.101.1 MPEG2MPHLF Fragmentable MPEG2 Main Profile / High Level
"""
_MPEG4 = """
2.4.102 MPEG4HP41 MPEG-4 AVC/H.264 High Profile / Level 4.1
2.4.102.1 MPEG4HP41F Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.1
2.4.103 MPEG4HP41BD MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1
2.4.103.1 MPEG4HP41BDF Fragmentable MPEG-4 AVC/H.264 BD-compatible High Profile / Level 4.1
2.4.104 MPEG4HP422D MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video
2.4.104.1 MPEG4HP422DF Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 2D Video
2.4.105 MPEG4HP423D MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video
2.4.105.1 MPEG4HP423DF Fragmentable MPEG-4 AVC/H.264 High Profile / Level 4.2 For 3D Video
2.4.106 MPEG4HP42STEREO MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2
2.4.106.1 MPEG4HP42STEREOF Fragmentable MPEG-4 AVC/H.264 Stereo High Profile / Level 4.2
"""
_HEVC = """
2.4.107 HEVCMP51 HEVC/H.265 Main Profile / Level 5.1
2.4.108 HEVCM10P51 HEVC/H.265 Main 10 Profile / Level 5.1
"""


_JPEG_LS_LOSSLESS = """
2.4.80 JPEGLSLossless JPEG-LS Lossless Image Compression
"""
_JPEG_LS = """
2.4.81 JPEGLSNearLossless JPEG-LS Lossy (Near-Lossless) Image Compression
"""
_JPEG_2000_LOSSLESS = """
2.4.90 JPEG2000Lossless JPEG 2000 Image Compression (Lossless Only)
"""
_JPEG_2000 = """
2.4.91 JPEG2000 JPEG 2000 Image Compression
"""
_JPEG_2000_PART_2_LOSSLESS = """
2.4.92 JPEG2000MCLossless JPEG 2000 Part 2 Multi-component Image Compression (Lossless Only)
"""
_JPEG_2000_PART_2 = """
2.4.93 JPEG2000MC JPEG 2000 Part 2 Multi-component Image Compression
"""
_HTJ2K_LOSSLESS = """
2.4.201 HTJ2KLossless High-Throughput JPEG 2000 Image Compression (Lossless Only)
2.4.202 HTJ2KLosslessRPCL High-Throughput JPEG 2000 with RPCL Options Image Compression (Lossless Only)
"""
_HTJ2K = """
2.4.203 HTJ2K High-Throughput JPEG 2000 Image Compression
"""
_JPEG_XL_LOSSLESS = """
2.4.110 JPEGXLLossless JPEG XL Lossless
"""
_JPEG_XL_RECOMPRESSION = """
2.4.111 JPEGXLJPEGRecompression JPEG XL JPEG Recompression
"""
_JPEG_XL = """
2.4.112 JPEGXL JPEG XL
"""
_RLE = """
2.5 RLELossless RLE Lossless
"""
_DEFLATED_FRAME = """
2.8.1 DeflatedImageFrameCompression Deflated Image Frame Compression
"""
_ENCAPSULATED_UNCOMPRESSED = """
2.1.98 EncapsulatedUncompressedExplicitVRLittleEndian Encapsulated Uncompressed Explicit VR Little Endian
"""
_EXPLICIT = """
2.1 ExplicitVRLittleEndian Explicit VR Little Endian
2.7.1 SMPTEST211020UncompressedProgressiveActiveVideo SMPTE ST 2110-20 Uncompressed Progressive Active Video
2.7.2 SMPTEST211020UncompressedInterlacedActiveVideo SMPTE ST 2110-20 Uncompressed Interlaced Active Video
2.7.3 SMPTEST211030PCMDigitalAudio SMPTE ST 2110-30 PCM Digital Audio
"""
_IMPLICIT = """
2 ImplicitVRLittleEndian Implicit VR Little Endian
"""
_IMPLICIT_RETIRED = """
20 Papyrus3ImplicitVRLittleEndian Papyrus 3 Implicit VR Little Endian
"""
_BIG_ENDIAN = """
2.2 ExplicitVRBigEndian Explicit VR Big Endian
"""
_DEFLATED = """
2.1.99 DeflatedExplicitVRLittleEndian Deflated Explicit VR Little Endian
"""
# pixel data is not in the data set: it is named by Pixel Data Provider URL (0028,7FE0)
_JPIP = """
2.4.94 JPIPReferenced JPIP Referenced
2.4.204 JPIPHTJ2KReferenced JPIP HTJ2K Referenced
"""
_JPIP_DEFLATED = """
2.4.95 JPIPReferencedDeflate JPIP Referenced Deflate
2.4.205 JPIPHTJ2KReferencedDeflate JPIP HTJ2K Referenced Deflate
"""
_NO_DATA_SET = """
2.6.1 RFC2557MIMEEncapsulation RFC 2557 MIME encapsulation
2.6.2 XMLEncoding XML Encoding
"""


def _table(
    rows: str,
    lossless: bool | None,
    media_type: str = "application/octet-stream",
    extension: str = "raw",
    *,
    encapsulated: bool = True,
    little_endian: bool = True,
    explicit_vr: bool = True,
    deflated: bool = False,
    retired: bool = False,
) -> dict[str, TransferSyntax]:
    """Transfer syntaxes by UID, one per line of ``rows``."""
    return {
        f"1.2.840.10008.1.{suffix}": TransferSyntax(
            uid=f"1.2.840.10008.1.{suffix}",
            keyword=keyword,
            name=name,
            encapsulated=encapsulated,
            little_endian=little_endian,
            explicit_vr=explicit_vr,
            deflated=deflated,
            lossless=lossless,
            media_type=media_type,
            extension=extension,
            retired=retired,
        )
        for suffix, keyword, name in (line.split(" ", 2) for line in rows.strip().splitlines())
    }


TRANSFER_SYNTAXES: Final[Mapping[str, TransferSyntax]] = MappingProxyType(
    _table(_IMPLICIT, True, encapsulated=False, explicit_vr=False)
    | _table(_EXPLICIT, True, encapsulated=False)
    | _table(_DEFLATED, True, encapsulated=False, deflated=True)
    | _table(_BIG_ENDIAN, True, encapsulated=False, little_endian=False, retired=True)
    | _table(_IMPLICIT_RETIRED, True, encapsulated=False, explicit_vr=False, retired=True)
    | _table(_ENCAPSULATED_UNCOMPRESSED, True)
    | _table(_DEFLATED_FRAME, True, "application/x-deflate", "dfl")
    | _table(_RLE, True, "image/dicom-rle", "rle")
    | _table(_JPEG_LOSSY, False, "image/jpeg", "jpg")
    | _table(_JPEG_LOSSLESS, True, "image/jpeg", "jpg")
    | _table(_JPEG_RETIRED_LOSSY, False, "image/jpeg", "jpg", retired=True)
    | _table(_JPEG_RETIRED_LOSSLESS, True, "image/jpeg", "jpg", retired=True)
    | _table(_JPEG_LS_LOSSLESS, True, "image/jls", "jls")
    | _table(_JPEG_LS, None, "image/jls", "jls")
    | _table(_JPEG_2000_LOSSLESS, True, "image/jp2", "j2k")
    | _table(_JPEG_2000, None, "image/jp2", "j2k")
    | _table(_JPEG_2000_PART_2_LOSSLESS, True, "image/jpx", "j2k")
    | _table(_JPEG_2000_PART_2, None, "image/jpx", "j2k")
    | _table(_HTJ2K_LOSSLESS, True, "image/jphc", "j2c")
    | _table(_HTJ2K, None, "image/jphc", "j2c")
    | _table(_JPEG_XL_LOSSLESS, True, "image/jxl", "jxl")
    | _table(_JPEG_XL_RECOMPRESSION, False, "image/jxl", "jxl")
    | _table(_JPEG_XL, None, "image/jxl", "jxl")
    | _table(_MPEG2, False, "video/mpeg", "mpg")
    | _table(_MPEG4, False, "video/mp4", "mp4")
    | _table(_HEVC, False, "video/H265", "h265")
    | _table(_JPIP, None, encapsulated=False)
    | _table(_JPIP_DEFLATED, None, encapsulated=False, deflated=True)
    | _table(_NO_DATA_SET, None, encapsulated=False, retired=True)
)
"""Every transfer syntax of PS3.6 Table A-1 by UID, whether a codec for it exists or not."""
