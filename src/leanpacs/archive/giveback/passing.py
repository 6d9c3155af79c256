"""Code streams of a pack that are, as they are held, what a transfer syntax demands."""

from __future__ import annotations

from typing import Final

from leanpacs.archive.manifest import Form, Manifest
from leanpacs.codecs.headers import jpeg2000_header, jpeg_header
from leanpacs.codecs.jpeg2000 import HTJ2K, Jpeg2000
from leanpacs.codecs.jpegls import JpegLS
from leanpacs.codecs.jpegxl import JpegXL
from leanpacs.codecs.jxlheader import jpegxl_header
from leanpacs.codecs.legacy import FROM_SAMPLES
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.uids import transfer_syntax as transfer_syntax_of
from leanpacs.errors import DecodeError

CODEC_OF: Final = {
    uids.JPEG_XL_LOSSLESS: JpegXL.name,
    uids.JPEG_XL: JpegXL.name,
    uids.JPEG_LS_LOSSLESS: JpegLS.name,
    uids.JPEG_2000_LOSSLESS: Jpeg2000.name,
    uids.HTJ2K_LOSSLESS: HTJ2K.name,
    uids.HTJ2K: HTJ2K.name,
}
"""Which codec's code streams each transfer syntax has; the RPCL syntax wants tile-parts that packs do not have."""
SYNTAX_OF: Final = {
    HTJ2K.name: uids.HTJ2K_LOSSLESS,
    JpegLS.name: uids.JPEG_LS_LOSSLESS,
    Jpeg2000.name: uids.JPEG_2000_LOSSLESS,
    JpegXL.name: uids.JPEG_XL_LOSSLESS,
}
"""The lossless transfer syntax of each codec whose code streams may be passed on as they are held."""
_WITH_A_SIGN: Final = frozenset({Jpeg2000.name, HTJ2K.name})
"""The others hold signed values as offset binary, where DICOM has two's complement."""


def passes(manifest: Manifest, transfer_syntax: str) -> bool:
    """Tell whether frames of a pack may be frames of a transfer syntax; :func:`is_as_demanded` says so of each.

    Only of one sample a pixel, whose colour space no code stream changes, and of values that stand in the code stream
    as they are.
    """
    coding = manifest.pixel
    if coding is None or coding.levels:
        return False
    spec = coding.spec
    if not (manifest.form is Form.FRAMES or _are_recoded_samples(manifest, spec.bits_stored)):
        return False
    is_plain = spec.kind == "integer" and spec.samples_per_pixel == 1 and spec.high_bit == spec.bits_stored - 1
    has_its_sign = not spec.pixel_representation or coding.codec in _WITH_A_SIGN
    return is_plain and has_its_sign and coding.codec == CODEC_OF.get(transfer_syntax)


def _are_recoded_samples(manifest: Manifest, bits_stored: int) -> bool:
    """Whether frames came in a lossless syntax, and all are held alike, as code streams of their samples."""
    return (
        manifest.form is Form.RECODED
        and transfer_syntax_of(manifest.transfer_syntax).lossless is True
        and all(
            recipe["kind"] in FROM_SAMPLES and recipe["precision"] == bits_stored and not recipe.get("levels")
            for recipe in manifest.recipes.distinct
        )
    )


def syntax_of_held(manifest: Manifest) -> str:
    """UID of the transfer syntax that the frames of a pack may be frames of as they are, '' when there is none."""
    uid = SYNTAX_OF.get(manifest.pixel.codec, "") if manifest.pixel else ""
    return uid if passes(manifest, uid) else ""


def is_as_demanded(codec: str, stream: bytes, spec: FrameSpec) -> bool:
    """Tell whether a code stream declares the bits and the sign that PS3.5 8.2 wants beside this data set."""
    try:
        bits, is_signed = declared(codec, stream, is_signed=bool(spec.pixel_representation))
    except DecodeError:
        return False
    # JPEG-LS of fewer bits than fill the first byte is what some readers refuse; the writer avoids it, too.
    least = (9 if spec.bits_allocated == 16 else 8) if codec == JpegLS.name else 1
    return bits == max(spec.bits_stored, least) and is_signed == bool(spec.pixel_representation)


def declared(codec: str, stream: bytes, *, is_signed: bool) -> tuple[int, bool]:
    """Bits and sign that a code stream declares; ``is_signed`` is taken for those that have no sign.

    Raises
    ------
    DecodeError
        It is none of this codec.
    """
    if codec == JpegXL.name:
        return jpegxl_header(codec, stream).shape.precision, is_signed
    if codec == JpegLS.name:
        return jpeg_header(codec, stream).shape.precision, is_signed
    header = jpeg2000_header(codec, stream)
    return header.shape.precision, header.is_signed
