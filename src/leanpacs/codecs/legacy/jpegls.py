"""JPEG-LS scans made again, with the parameters that stand in the headers of the code stream (ISO/IEC 14495-1)."""

from __future__ import annotations

from collections.abc import Sequence

from leanpacs.codecs.codec import Samples
from leanpacs.codecs.legacy.scans import SOF55, SOS, segments, split
from leanpacs.errors import UnsupportedFrame


def scan_data(values: Samples, headers: Sequence[bytes]) -> list[bytes]:
    """Entropy-coded data of each scan.

    Parameters
    ----------
    values : ndarray
        Unsigned, shape (rows, columns, components).
    headers : sequence of bytes
        What stands before each scan.

    Raises
    ------
    UnsupportedFrame
        If the encoder does not take the parameters.
    """
    frame = next(content for marker, content in segments(headers[0]) if marker == SOF55)
    precision, identifiers = frame[0], frame[6::3]
    return [_scan(values, precision, identifiers, header) for header in headers]


def _scan(values: Samples, precision: int, identifiers: bytes, header: bytes) -> bytes:
    import jpeg_ls

    *_, (marker, content) = segments(header)
    assert marker == SOS
    count = content[0]
    components = [identifiers.index(identifier) for identifier in content[1 : 1 + 2 * count : 2]]
    near, interleave = content[-3], content[-2]
    if (interleave == 0) != (count == 1):
        raise UnsupportedFrame(f"{count} components in a scan with interleave mode {interleave}")
    chosen = values[..., components]  # CharLS takes pixels even when it is to write line by line
    try:
        made = jpeg_ls.encode_buffer(
            chosen.tobytes(),
            rows=values.shape[0],
            columns=values.shape[1],
            samples_per_pixel=count,
            bits_stored=precision,
            lossy_error=near,
            interleave_mode=None if count == 1 else interleave,
        )
    except (RuntimeError, ValueError) as error:
        raise UnsupportedFrame(f"the scan cannot be encoded again: {error}") from error
    return split(bytes(made))[0][0].data
