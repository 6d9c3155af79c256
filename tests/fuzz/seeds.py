"""What is spoilt: code streams of every transfer syntax, and files, out of every source at hand.

pydicom's files and synthetic ones are always there; those of LEANPACS_TEST_DATA when it is set.
"""

from __future__ import annotations

import io
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import data
from leanpacs.codecs import registry
from leanpacs.codecs.codec import EncodeOptions
from leanpacs.codecs.native import unpack
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec, frame_spec
from leanpacs.errors import LeanPACSError
from leanpacs.transcode.content import Streams, open_content, parts
from leanpacs.transcode.source import OpenFile

LARGEST_FRAME = 3_000_000
LARGEST_FILE = 700_000
MOST_OF_A_KIND = 14

_OWN = {
    "jpegxl": uids.JPEG_XL_LOSSLESS,
    "htj2k": uids.HTJ2K_LOSSLESS,
    "jpegls": uids.JPEG_LS_LOSSLESS,
    "jpeg2000": uids.JPEG_2000_LOSSLESS,
    "rle": uids.RLE,
    "deflate": uids.DEFLATED_FRAME,
    "raw": uids.ENCAPSULATED_UNCOMPRESSED,
}


@dataclass(frozen=True, slots=True)
class StreamSeed:
    """A good code stream; ``name`` finds it again."""

    name: str
    transfer_syntax: str
    spec: FrameSpec
    stream: bytes


@dataclass(frozen=True, slots=True)
class FileSeed:
    """A good file."""

    name: str
    content: bytes


def own_streams() -> list[StreamSeed]:
    """Of each codec that encodes here: grey and colour, 8 and 16 bits, signed."""
    recipes = {
        "grey8": data.Recipe(rows=40, columns=33, bits_allocated=8, bits_stored=8),
        "grey12": data.Recipe(rows=40, columns=33, bits_stored=12),
        "signed": data.Recipe(rows=33, columns=40, bits_stored=16, signed=True),
        "noise": data.Recipe(rows=64, columns=64, bits_stored=16, content="noise"),
        "colour": data.Recipe(rows=40, columns=40, bits_allocated=8, bits_stored=8, samples=3),
    }
    return [
        StreamSeed(f"own/{name}/{codec}", syntax, _spec(recipe), _encoded(codec, recipe))
        for name, recipe in recipes.items()
        for codec, syntax in _OWN.items()
    ]


def bundled_streams() -> list[StreamSeed]:
    """First frames of the encapsulated files that pydicom brings along."""
    return [seed for path in data.bundled() for seed in _first_frame(f"pydicom/{path.name}", path)]


def corpus_streams() -> list[StreamSeed]:
    """First frames of the encapsulated files of the corpus; none without it."""
    return [seed for name, path in _corpus() for seed in _first_frame(f"corpus/{name}", path)]


def streams() -> list[StreamSeed]:
    """All of them, as many of each transfer syntax."""
    kinds: dict[str, list[StreamSeed]] = defaultdict(list)
    for seed in [*own_streams(), *bundled_streams(), *corpus_streams()]:
        if len(kinds[seed.transfer_syntax]) < MOST_OF_A_KIND:
            kinds[seed.transfer_syntax].append(seed)
    return [seed for kind in kinds.values() for seed in kind]


def own_files() -> list[FileSeed]:
    """Synthetic files of every transfer syntax that the recipes know."""
    small = data.Recipe(rows=16, columns=12)
    byte = replace(small, bits_allocated=8, bits_stored=8)
    recipes = {
        "implicit": replace(small, transfer_syntax=data.IMPLICIT_LE),
        "explicit": replace(small, private_bytes=200, undefined_lengths=True),
        "big": replace(small, transfer_syntax=data.EXPLICIT_BE, signed=True),
        "deflated": replace(small, transfer_syntax=data.DEFLATED_LE),
        "one-bit": replace(small, bits_allocated=1, bits_stored=1, frames=3),
        "planar": replace(byte, samples=3, planar=1),
        "float": replace(small, kind="float", bits_allocated=32),
        "report": replace(small, kind="none", modality="SR"),
        "rle": replace(small, transfer_syntax=data.RLE, frames=3),
        "jpeg": replace(byte, transfer_syntax=data.JPEG_BASELINE, samples=3, icon=True),
        "lossless": replace(byte, transfer_syntax=data.JPEG_LOSSLESS),
        "jpegls": replace(small, transfer_syntax=data.JPEG_LS, frames=2, fragments=2),
        "jpeg2000": replace(small, transfer_syntax=data.JPEG_2000, offset_table="extended"),
        "htj2k": replace(small, transfer_syntax=data.HTJ2K, offset_table="empty"),
        "jpegxl": replace(small, transfer_syntax=data.JPEG_XL),
        "no-meta": replace(small, file_meta=False),
    }
    return [FileSeed(f"own/{name}", data.make_instance(recipe)) for name, recipe in recipes.items()]


def files() -> list[FileSeed]:
    """All files that are small enough to be taken in thousands of times."""
    found = [(f"pydicom/{path.name}", path) for path in data.bundled()] + _corpus()
    small = [FileSeed(name, path.read_bytes()) for name, path in found if path.stat().st_size <= LARGEST_FILE]
    return own_files() + small


def _corpus() -> list[tuple[str, Path]]:
    if not os.environ.get("LEANPACS_TEST_DATA"):
        return []
    folder = data.corpus_folder()
    return [(str(path.relative_to(folder)), path) for path in data.corpus()]


def _first_frame(name: str, path: Path) -> Iterator[StreamSeed]:
    try:
        with (
            path.open("rb") as file,
            open_content(file, None, spool=Path(tempfile.gettempdir()), limit_bytes=1 << 28) as content,
        ):
            if not isinstance(parts(content), Streams):
                return
            assert content.layout.pixel is not None
            spec = frame_spec(content.layout.elements, content.layout.pixel)
            stream = OpenFile(content).frame(1)
    except LeanPACSError:
        return
    syntax = content.layout.transfer_syntax
    if spec.frame_bits // 8 <= LARGEST_FRAME and registry.for_transfer_syntax(syntax) is not None:
        yield StreamSeed(name, syntax, spec, stream)


def _spec(recipe: data.Recipe) -> FrameSpec:
    return FrameSpec(
        rows=recipe.rows,
        columns=recipe.columns,
        samples_per_pixel=recipe.samples,
        bits_allocated=recipe.bits_allocated,
        bits_stored=recipe.bits_stored,
        high_bit=recipe.bits_stored - 1,
        pixel_representation=int(recipe.signed),
        planar_configuration=0,
        photometric_interpretation="RGB" if recipe.samples == 3 else "MONOCHROME2",
        number_of_frames=1,
    )


def _encoded(codec: str, recipe: data.Recipe) -> bytes:
    spec = _spec(recipe)
    samples = unpack(io.BytesIO(data.native_pixels(recipe)).read(-(-spec.frame_bits // 8)), spec)
    return registry.by_name(codec).encode(samples, spec, EncodeOptions(3, spec.bits_stored))
