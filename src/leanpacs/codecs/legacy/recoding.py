"""Recode one received code stream, or say why not; make it again."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from types import MappingProxyType
from typing import Any, Final

import numpy as np

from leanpacs.codecs import registry
from leanpacs.codecs.bytewise import Zstd
from leanpacs.codecs.codec import Codec, EncodeOptions, Samples, decoding
from leanpacs.codecs.jpegxl import JpegXL
from leanpacs.codecs.legacy import jpegls, lossless, packbits
from leanpacs.codecs.legacy.scans import SOF3, SOF55, segments, split
from leanpacs.codecs.levels import levels_of, may_have_levels, precision_of
from leanpacs.codecs.native import pack, unpack
from leanpacs.codecs.registry import decode_received
from leanpacs.codecs.rle import byte_planes
from leanpacs.codecs.samples import decoded_spec
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import UnsupportedFrame

Recipe = Mapping[str, Any]
"""How decoded samples become the received code stream again; JSON, described in docs/reference/pack-format.md."""

_JPEG_EFFORT: Final = 7
"""What libjxl recompresses JPEG with; imagecodecs offers no choice."""

_ZSTD_LEVEL: Final = 19
_MOST_RECIPE_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Recoded:
    """A code stream that holds a received one.

    Parameters
    ----------
    stream : bytes
        Complete, openable by stock tools.
    codec, effort, precision : str, int, int
        By which it was made; as in :class:`EncodeOptions`.
    extension : str
        File name extension of ``stream``.
    recipe : mapping
        What :func:`rebuild` needs besides.
    """

    stream: bytes
    codec: str
    effort: int
    precision: int
    extension: str
    recipe: Recipe


def recode(stream: bytes, transfer_syntax: str, spec: FrameSpec, effort: int) -> Recoded:
    """Hold a received code stream in fewer bytes; that it can be made again is checked here.

    Parameters
    ----------
    stream : bytes
        All fragments of the frame, joined, padding included.
    transfer_syntax : str
        UID as received.
    spec : FrameSpec
        What the data set says of the frame.
    effort : int
        Of JPEG XL, 1 to 9. JPEG is always recompressed at effort 7.

    Raises
    ------
    UnsupportedFrame
        If the code stream would not come out the same, or is not smaller; says why.
    DecodeError, EncodeError
        If a library fails.

    References
    ----------
    PS3.5 8.2 and Annex G; ISO/IEC 18181-2 (JPEG reconstruction data), ISO/IEC 14495-1, ISO/IEC 10918-1 Annex H.
    """
    if transfer_syntax in (uids.JPEG_BASELINE, uids.JPEG_EXTENDED):
        recoded = _recompressed(stream, spec)
    elif transfer_syntax in _KINDS:
        recoded = _from_samples(stream, transfer_syntax, spec, effort)
    else:
        raise UnsupportedFrame(f"code streams of {transfer_syntax} are not recoded")
    recipe_bytes = len(json.dumps(dict(recoded.recipe)))
    if recipe_bytes > _MOST_RECIPE_BYTES or len(recoded.stream) + recipe_bytes >= len(stream):
        raise UnsupportedFrame(f"{len(recoded.stream)} bytes with a recipe of {recipe_bytes} save nothing")
    return recoded


def rebuild(stream: bytes, recipe: Recipe, codec: str, spec: FrameSpec) -> bytes:
    """Make the received code stream again.

    Parameters
    ----------
    stream, recipe, codec
        Of :class:`Recoded`.
    spec : FrameSpec
        That :func:`recode` was given.

    Raises
    ------
    DecodeError
        If the stream is damaged.
    UnsupportedFrame
        If the recipe makes no sense.
    """
    if recipe["kind"] == "jpeg":
        return _reconstructed(stream)
    options = EncodeOptions(1, recipe["precision"], tuple(accumulate(recipe.get("levels", ()))))
    samples = _decoded(registry.by_name(codec), stream, decoded_spec(spec), options)
    return _MAKERS[recipe["kind"]](samples, recipe)


def _recompressed(stream: bytes, spec: FrameSpec) -> Recoded:
    """JPEG as JPEG XL with reconstruction data, which holds what follows EOI, too."""
    import imagecodecs

    try:
        made = bytes(imagecodecs.jpegxl_encode_jpeg(stream, usecontainer=True, numthreads=1))
    except RuntimeError as error:
        raise UnsupportedFrame(f"libjxl does not take this JPEG: {error}") from error
    if _reconstructed(made) != stream:
        raise UnsupportedFrame("libjxl does not give this JPEG back byte for byte")
    return Recoded(made, JpegXL.name, _JPEG_EFFORT, min(spec.bits_allocated, 8), JpegXL.extension, {"kind": "jpeg"})


def _reconstructed(stream: bytes) -> bytes:
    with decoding(JpegXL.name):
        import imagecodecs

        return bytes(imagecodecs.jpegxl_decode_jpeg(stream, numthreads=1))


def _from_samples(stream: bytes, transfer_syntax: str, spec: FrameSpec, effort: int) -> Recoded:
    samples = decode_received(stream, transfer_syntax, spec).samples
    kind = _KINDS[transfer_syntax]
    try:
        recipe = _READERS[kind](stream, samples)
        made = _MAKERS[kind](samples, recipe)
    except (LookupError, StopIteration, struct.error) as error:
        raise UnsupportedFrame("the headers of the code stream are damaged") from error
    if made != stream:
        raise UnsupportedFrame(f"encoded again it {_difference(made, stream)}")
    return _densest(samples, decoded_spec(spec), effort, recipe)


def _densest(samples: Samples, spec: FrameSpec, effort: int, recipe: Recipe) -> Recoded:
    """JPEG XL where it holds the samples, else Zstandard; decoded again and compared."""
    frame = pack(samples, spec)
    for codec, options in _attempts(samples, spec, effort):
        try:
            stream = registry.encode_frame(codec, frame, spec, options)
        except UnsupportedFrame:
            continue
        if not np.array_equal(_decoded(codec, stream, spec, options), samples):
            raise UnsupportedFrame(f"{codec.name} does not give the samples back")
        whole_recipe = {**recipe, "precision": options.precision}
        if options.levels:
            steps = [after - before for before, after in pairwise(options.levels)]
            whole_recipe["levels"] = [options.levels[0], *steps]
        return Recoded(stream, codec.name, options.effort, options.precision, codec.extension, whole_recipe)
    raise UnsupportedFrame("no codec holds the samples")


def _decoded(codec: Codec, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> Samples:
    return unpack(registry.decode_frame(codec, stream, spec, options), spec)


def _attempts(samples: Samples, spec: FrameSpec, effort: int) -> Iterator[tuple[Codec, EncodeOptions]]:
    jpegxl = registry.by_name(JpegXL.name)
    if jpegxl.refusal(spec) is not None:
        yield registry.by_name(Zstd.name), EncodeOptions(_ZSTD_LEVEL, spec.bits_allocated)
        return
    if may_have_levels(spec) and (levels := levels_of([samples], spec)):
        yield jpegxl, EncodeOptions(effort, precision_of(levels), levels)
    for precision in dict.fromkeys((spec.bits_stored, spec.bits_allocated)):
        yield jpegxl, EncodeOptions(effort, precision)


def _difference(made: bytes, stream: bytes) -> str:
    if len(made) != len(stream):
        return f"has {len(made)} bytes, not {len(stream)}"
    differs = np.frombuffer(made, np.uint8) != np.frombuffer(stream, np.uint8)
    return f"differs from byte {int(differs.argmax())}"


# Scans: the recipe keeps what stands in segments; the rest is encoded again from it.


def _read_scans(stream: bytes, samples: Samples) -> Recipe:
    scans, trailer = split(stream)
    parts = [*(scan.header for scan in scans), trailer]
    return {"segments": [base64.b64encode(part).decode() for part in parts]}


def _make_scans(
    scan_data: Callable[[Samples, Sequence[bytes]], list[bytes]], samples: Samples, recipe: Recipe
) -> bytes:
    *headers, trailer = (base64.b64decode(text) for text in recipe["segments"])
    frame = next(content for marker, content in segments(headers[0]) if marker in (SOF3, SOF55))
    data = scan_data(_without_sign(samples, frame[0]), headers)
    return b"".join(part for pair in zip(headers, data, strict=True) for part in pair) + trailer


def _without_sign(samples: Samples, precision: int) -> Samples:
    """The values of the code stream: unsigned, of shape (rows, columns, components)."""
    values = samples.view(f"u{samples.dtype.itemsize}") & ((1 << precision) - 1)
    return np.atleast_3d(values.astype(np.uint8 if precision <= 8 else np.uint16))


# RLE: the recipe keeps the rule for runs, and where segments lie.


def _read_runs(stream: bytes, samples: Samples) -> Recipe:
    rule = packbits.rule_of(stream, _segments(samples), samples.shape[1])
    return {"rule": rule, "offsets": packbits.offsets_of(stream), "length": len(stream)}


def _make_runs(samples: Samples, recipe: Recipe) -> bytes:
    return packbits.joined(_segments(samples), samples.shape[1], recipe["rule"], recipe["offsets"], recipe["length"])


def _segments(samples: Samples) -> list[bytes]:
    return [plane.tobytes() for plane in byte_planes(samples)]


_READERS: Final[Mapping[str, Callable[[bytes, Samples], Recipe]]] = MappingProxyType(
    {
        "jpegls": lambda stream, samples: {"kind": "jpegls", **_read_scans(stream, samples)},
        "ljpeg": lambda stream, samples: {"kind": "ljpeg", **_read_scans(stream, samples)},
        "rle": lambda stream, samples: {"kind": "rle", **_read_runs(stream, samples)},
    }
)

_MAKERS: Final[Mapping[str, Callable[[Samples, Recipe], bytes]]] = MappingProxyType(
    {
        "jpegls": lambda samples, recipe: _make_scans(jpegls.scan_data, samples, recipe),
        "ljpeg": lambda samples, recipe: _make_scans(lossless.scan_data, samples, recipe),
        "rle": _make_runs,
    }
)

FROM_SAMPLES: Final = frozenset(_MAKERS)
"""Kinds of recipes beside which the code stream is one of the samples."""

_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        uids.JPEG_LS_LOSSLESS: "jpegls",
        uids.JPEG_LS_NEAR_LOSSLESS: "jpegls",
        uids.JPEG_LOSSLESS: "ljpeg",
        uids.JPEG_LOSSLESS_SV1: "ljpeg",
        uids.RLE: "rle",
    }
)

RECODABLE: Final = frozenset({uids.JPEG_BASELINE, uids.JPEG_EXTENDED, *_KINDS})
"""Transfer syntaxes whose code streams :func:`recode` may take."""
