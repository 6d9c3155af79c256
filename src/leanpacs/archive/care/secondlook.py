"""Decode what is held once more, with another library: a decoder's own mistakes do not show when it checks itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from leanpacs.archive.giveback.passing import SYNTAX_OF, declared, syntax_of_held
from leanpacs.archive.giveback.seriespack import packed_instance
from leanpacs.archive.manifest import Form, Manifest
from leanpacs.archive.settle.representing import codec_name
from leanpacs.archive.settle.settling import dictionaries_of
from leanpacs.codecs import registry
from leanpacs.codecs.legacy import FROM_SAMPLES
from leanpacs.codecs.second import second_decoders
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError, UnsupportedFrame, VerificationError
from leanpacs.refs import Digest
from leanpacs.storage.store import BlobStore

MOST_FRAMES = 8


@dataclass(frozen=True, slots=True)
class Look:
    """What a second look came to: the decoder, '' where none here decodes such frames, and what they are coded with.

    ``codec`` is '' where no frame is held as a code stream of ours.
    """

    decoder: str = ""
    codec: str = ""


def look_again(
    store: BlobStore, dictionary_names: tuple[str, ...], pack: Digest, sop_uid: str, expected: Digest
) -> Look:
    """Rebuild the data set of a pack, compare it with what was received, and some frames with a second decoder's.

    Raises
    ------
    VerificationError
        The data set is not the one received, or the two decoders do not agree.
    """
    with store.open(pack) as file:
        packed = packed_instance(file, dictionaries_of(store, dictionary_names), sop_uid)
        actual = packed.digest()
        if actual != expected:
            raise VerificationError("the data set is not the one received", expected.hex, actual.hex)
        coding = packed.manifest.pixel
        if coding is None:
            return Look()
        syntax = SYNTAX_OF.get(coding.codec)
        step = -(-packed.manifest.frames // MOST_FRAMES)
        chosen = [one for one in range(1, packed.manifest.frames + 1, step) if _holds_samples(packed.manifest, one)]
        if syntax is None or not chosen:
            return Look("", codec_name(packed.manifest))
        is_plain = syntax_of_held(packed.manifest) != ""
        streams = {number: packed.stream(number) for number in chosen}
        for decoder in second_decoders(syntax):
            try:
                for number, stream in streams.items():
                    spec = coding.spec if is_plain else _as_held(coding.codec, stream, coding.spec)
                    first = registry.decode_received(stream, syntax, spec).samples
                    second = decoder.decode(stream, syntax, spec).samples
                    if not np.array_equal(first, second):
                        raise VerificationError(
                            f"{decoder.library()} decodes frame {number} to other samples", coding.library, decoder.name
                        )
            except (UnsupportedFrame, DecodeError):
                continue  # it does not decode such frames; the next one may
            return Look(decoder.library(), coding.codec)
    return Look("", coding.codec)


def _holds_samples(manifest: Manifest, number: int) -> bool:
    """Whether a frame is held as a code stream of its samples, which any decoder of the syntax reads."""
    if manifest.form is Form.RECODED:
        return manifest.recipes[number]["kind"] in FROM_SAMPLES
    return manifest.form is Form.FRAMES


def _as_held(codec: str, stream: bytes, spec: FrameSpec) -> FrameSpec:
    """What a code stream says of itself: packs hold signs as offset binary, and sparse values as indexes of them."""
    bits, is_signed = declared(codec, stream, is_signed=False)
    return FrameSpec(
        rows=spec.rows,
        columns=spec.columns,
        samples_per_pixel=spec.samples_per_pixel,
        bits_allocated=8 if bits <= 8 else 16,
        bits_stored=bits,
        high_bit=bits - 1,
        pixel_representation=int(is_signed),
        planar_configuration=0,
        photometric_interpretation="RGB" if spec.samples_per_pixel == 3 else "MONOCHROME2",
        number_of_frames=1,
    )
