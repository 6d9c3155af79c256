"""JPEG 2000 through OpenJPEG and HTJ2K through OpenJPH (ISO/IEC 15444-1 and -15; PS3.5 A.4.4, A.4.11)."""

from __future__ import annotations

import numpy as np

from leanpacs.codecs.codec import DecodedFrame, EncodeOptions, Samples, decoding, encoding
from leanpacs.codecs.headers import (
    Jpeg2000Header,
    extension_markers,
    is_reversible,
    jpeg2000_header,
    require_all_tile_parts,
    require_sound_main_header,
)
from leanpacs.codecs.samples import (
    checked,
    decoded_spec,
    dtype_of,
    fitting,
    from_twos_complement,
    image_refusal,
    narrowed,
)
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError, UnsupportedFrame

_LEAST_BITS = 8
"""OpenJPEG reserves too little for noise of one or two bits."""

MOST_BITS = 24
"""Beyond them OpenJPEG gives other samples without saying so: its wavelet transform overflows 32 bits."""

THREADS = 2
"""In which OpenJPEG codes blocks while somebody waits: it is the slowest of all."""
_LARGE_PIXELS = 1 << 20
"""From so many on it decodes so, too: half a second of a radiograph becomes a quarter."""

_FIRST_DEPTH = 42
"""Where the number of bits of the first component stands: SOC, SIZ, its length and 36 bytes before it."""
_SIGNED = 0x80

MOST_HTJ2K_BITS = 16
"""OpenJPEG does not read the header of high-throughput code streams with more."""


class Jpeg2000:
    """Reversible JPEG 2000 with its own arithmetic coder: small, and slow both ways. Signed values stay signed."""

    name = "jpeg2000"
    extension = "j2k"

    def library(self) -> str:
        """Return name and version of what encodes."""
        import imagecodecs

        return f"imagecodecs {imagecodecs.__version__} / {imagecodecs.jpeg2k_version()}"

    def refusal(self, spec: FrameSpec) -> str | None:
        """Say why frames of this kind cannot be held exactly."""
        return image_refusal(spec)

    def encode(self, samples: Samples, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Compress one frame; ``effort`` has no meaning."""
        values = narrowed(checked(self, samples, spec, options.precision), options.precision)
        with encoding(self.name):
            import imagecodecs

            stream = imagecodecs.jpeg2k_encode(
                values,
                level=0,
                codecformat="j2k",
                reversible=True,
                bitspersample=max(options.precision, _LEAST_BITS),
                mct=_is_rgb(spec),
                planar=False,
                numthreads=1,
            )
            return bytes(stream)

    def decode(self, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> Samples:
        """Return the samples of a code stream made by :meth:`encode`."""
        try:
            samples, _ = _decoded(self.name, stream, spec)
        except UnsupportedFrame as error:  # it was not made here
            raise DecodeError(self.name, error.reason) from error
        return samples.astype(dtype_of(spec), copy=False)


class HTJ2K:
    """Reversible High-Throughput JPEG 2000: decodes fastest. Signed values stay signed."""

    name = "htj2k"
    extension = "j2c"

    def library(self) -> str:
        """Return name and version of what encodes."""
        import imagecodecs

        return f"imagecodecs {imagecodecs.__version__} / {imagecodecs.htj2k_version()}"

    def refusal(self, spec: FrameSpec) -> str | None:
        """Say why frames of this kind cannot be held exactly."""
        return image_refusal(spec)

    def encode(self, samples: Samples, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Compress one frame; ``effort`` has no meaning."""
        values = narrowed(checked(self, samples, spec, options.precision), options.precision)
        is_odd = options.precision < 8 * values.dtype.itemsize <= MOST_HTJ2K_BITS
        with encoding(self.name):
            import imagecodecs

            # OpenJPH declares 8 or 16 bits; the true number lets the code stream go out as it is held.
            given = centred(values, options.precision) if is_odd else values
            stream = bytes(imagecodecs.htj2k_encode(given, reversible=True, rgb=_is_rgb(spec), planar=False))
        return with_depth(stream, spec, options.precision, is_signed=values.dtype.kind == "i") if is_odd else stream

    def decode(self, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> Samples:
        """Return the samples of a code stream made by :meth:`encode`."""
        samples, _ = _decoded(self.name, stream, spec)
        return samples.astype(dtype_of(spec), copy=False)


def decode_received(codec: str, stream: bytes, spec: FrameSpec) -> DecodedFrame:
    """Decode a code stream that came from elsewhere, by the decoder of ``codec`` (its name).

    A component transform of the code stream is undone, so YBR_RCT and YBR_ICT become RGB. The sign of the code stream
    may contradict Pixel Representation; the latter holds.

    Raises
    ------
    DecodeError
        If the code stream is damaged or not of ``spec``.
    UnsupportedFrame
        If it has more bits than the decoder is exact for, or extensions of part 2.
    """
    if codec == Jpeg2000.name:
        readable_header(stream, spec)
    return as_received(*_decoded(codec, stream, spec), spec)


def decode_received_htj2k(stream: bytes, spec: FrameSpec, *, is_lossless: bool) -> DecodedFrame:
    """Decode a high-throughput code stream.

    What is lossy may go beyond the range of the samples, and imagecodecs lets that wrap around: OpenJPEG, which clips
    it, decodes all that it can read.

    Raises
    ------
    DecodeError, UnsupportedFrame
        As :func:`decode_received`; also lossy code streams of more bits than OpenJPEG reads are not supported.
    """
    bits = jpeg2000_header(HTJ2K.name, stream).shape.precision
    if is_lossless or (bits > MOST_HTJ2K_BITS and is_reversible(HTJ2K.name, stream)):
        return decode_received(HTJ2K.name, stream, spec)
    if bits > MOST_HTJ2K_BITS:
        raise UnsupportedFrame(f"{HTJ2K.name}: lossy with {bits} bits a sample")
    return decode_received(Jpeg2000.name, stream, spec)


def centred(values: Samples, precision: int) -> Samples:
    """Signed values: what a decoder will add to unsigned ones is taken away, so that any number may be declared."""
    signed = np.dtype(np.int8 if precision <= 8 else np.int16)
    if values.dtype.kind == "i":
        return values.astype(signed, copy=False)
    # Subtraction modulo the width is exact: the difference fits it.
    unsigned = np.dtype(f"u{signed.itemsize}")
    moved: Samples = values.astype(unsigned, copy=False) - unsigned.type(1 << precision - 1)
    return moved.view(signed)


def with_depth(stream: bytes, spec: FrameSpec, precision: int, *, is_signed: bool) -> bytes:
    """The code stream with another number of bits declared, for all components (ISO/IEC 15444-1 A.5.1)."""
    depth = precision - 1 | (_SIGNED if is_signed else 0)
    changed = bytearray(stream)
    for component in range(spec.samples_per_pixel):
        changed[_FIRST_DEPTH + 3 * component] = depth
    return bytes(changed)


def as_received(samples: Samples, header: Jpeg2000Header, spec: FrameSpec) -> DecodedFrame:
    """Samples as a decoder gave them, with the sign and the colour space that DICOM gives them."""
    values = from_twos_complement(samples, spec, header.shape.precision)
    return DecodedFrame(values, decoded_spec(spec, "RGB" if is_transformed(spec) else ""))


def _decoded(codec: str, stream: bytes, spec: FrameSpec) -> tuple[Samples, Jpeg2000Header]:
    header = jpeg2000_header(codec, stream)
    header.shape.require(codec, spec)
    if codec == HTJ2K.name:
        require_sound_main_header(codec, stream)
    require_all_tile_parts(codec, stream)
    with decoding(codec):
        import imagecodecs

        if codec == HTJ2K.name:
            samples = _to_the_end(stream, header)
        else:
            threads = 1 if spec.rows * spec.columns < _LARGE_PIXELS else THREADS
            samples = imagecodecs.jpeg2k_decode(stream, planar=False, numthreads=threads)
    return fitting(codec, samples, spec), header


def _to_the_end(stream: bytes, header: Jpeg2000Header) -> Samples:
    """Decode with OpenJPH, and see that it came to the end.

    When OpenJPH gives up within a damaged code stream, imagecodecs says nothing and returns the rows it has got. The
    last row is written last, so it is marked before; when the mark is still there, another one must be overwritten.
    """
    import imagecodecs

    shape = header.shape
    width = 1 if shape.precision <= 8 else 2 if shape.precision <= 16 else 4
    size = (shape.rows, shape.columns) if shape.samples == 1 else (shape.rows, shape.columns, shape.samples)
    samples = np.empty(size, f"{'i' if header.is_signed else 'u'}{width}")
    last = samples[-1] if shape.samples == 1 else samples[-1, :, -1]
    for mark in (0x55, 0x2A):
        last[:] = mark
        imagecodecs.htj2k_decode(stream, planar=False, out=samples)
        if not (last == mark).all():
            return samples
    raise DecodeError(HTJ2K.name, "the code stream is damaged: OpenJPH did not come to its end")


def is_transformed(spec: FrameSpec) -> bool:
    """Whether Photometric Interpretation says that colours were transformed when they were encoded."""
    return spec.photometric_interpretation in {"YBR_RCT", "YBR_ICT"}


def readable_header(stream: bytes, spec: FrameSpec) -> Jpeg2000Header:
    """Header of a code stream of a frame of ``spec`` that OpenJPEG decodes exactly.

    Raises
    ------
    DecodeError, UnsupportedFrame
        As :func:`decode_received`.
    """
    name = Jpeg2000.name
    header = jpeg2000_header(name, stream)
    header.shape.require(name, spec)
    if header.shape.precision > MOST_BITS:
        raise UnsupportedFrame(f"{name}: {header.shape.precision} bits a sample, OpenJPEG is exact up to {MOST_BITS}")
    extensions = extension_markers(name, stream)
    if extensions:
        raise UnsupportedFrame(f"{name}: extensions of JPEG 2000 part 2 ({', '.join(extensions)})")
    return header


def _is_rgb(spec: FrameSpec) -> bool:
    """Whether the reversible colour transform is worth while: luminance and chroma are apart already in YBR."""
    return spec.samples_per_pixel == 3 and not spec.photometric_interpretation.startswith("YBR")
