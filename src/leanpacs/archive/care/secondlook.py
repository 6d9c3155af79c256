"""Decode what is held once more, with another library: a decoder's own mistakes do not show when it checks itself."""

from __future__ import annotations

import numpy as np

from leanpacs.archive.giveback.passing import syntax_of_held
from leanpacs.archive.giveback.seriespack import packed_instance
from leanpacs.archive.settle.settling import dictionaries_of
from leanpacs.codecs import registry
from leanpacs.codecs.second import second_decoders
from leanpacs.errors import DecodeError, UnsupportedFrame, VerificationError
from leanpacs.refs import Digest
from leanpacs.storage.store import BlobStore

MOST_FRAMES = 8


def look_again(
    store: BlobStore, dictionary_names: tuple[str, ...], pack: Digest, sop_uid: str, expected: Digest
) -> str:
    """Rebuild the data set of a pack, compare it with what was received, and some frames with a second decoder's.

    Returns
    -------
    str
        The second decoder; '' where there is none for these frames.

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
        # Others show what was meant only where code streams hold plain samples, as a transfer syntax demands.
        coding, syntax = packed.manifest.pixel, syntax_of_held(packed.manifest)
        if coding is None or syntax is None:
            return ""
        step = -(-packed.manifest.frames // MOST_FRAMES)
        for decoder in second_decoders(syntax):
            try:
                for number in range(1, packed.manifest.frames + 1, step):
                    stream = packed.stream(number)
                    first = registry.decode_received(stream, syntax, coding.spec).samples
                    second = decoder.decode(stream, syntax, coding.spec).samples
                    if not np.array_equal(first, second):
                        raise VerificationError(
                            f"{decoder.library()} decodes frame {number} to other samples", coding.library, decoder.name
                        )
            except (UnsupportedFrame, DecodeError):
                continue  # it does not decode such frames; the next one may
            return decoder.library()
    return ""
