"""JPEG 2000 through OpenJPEG and HTJ2K through OpenJPH (ISO/IEC 15444-1 and -15; PS3.5 A.4.4, A.4.11)."""

from __future__ import annotations

from leanpacs.codecs.codec import DecodedFrame, EncodeOptions, Samples, decoding, encoding
from leanpacs.codecs.headers import Jpeg2000Header, jpeg2000_header, require_sound_main_header
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

_LEAST_BITS = 8
"""OpenJPEG reserves too little for noise of one or two bits."""


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
        samples, _ = _decoded(self.name, stream, spec)
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
        with encoding(self.name):
            import imagecodecs

            return bytes(imagecodecs.htj2k_encode(values, reversible=True, rgb=_is_rgb(spec), planar=False))

    def decode(self, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> Samples:
        """Return the samples of a code stream made by :meth:`encode`."""
        samples, _ = _decoded(self.name, stream, spec)
        return samples.astype(dtype_of(spec), copy=False)


def decode_received(codec: str, stream: bytes, spec: FrameSpec) -> DecodedFrame:
    """Decode a code stream that came from elsewhere, by the decoder of ``codec`` (its name).

    A component transform of the code stream is undone, so YBR_RCT and YBR_ICT become RGB. The sign of the code stream
    may contradict Pixel Representation; the latter holds.
    """
    samples, header = _decoded(codec, stream, spec)
    is_transformed = spec.photometric_interpretation in {"YBR_RCT", "YBR_ICT"}
    values = from_twos_complement(samples, spec, header.shape.precision)
    return DecodedFrame(values, decoded_spec(spec, "RGB" if is_transformed else ""))


def _decoded(codec: str, stream: bytes, spec: FrameSpec) -> tuple[Samples, Jpeg2000Header]:
    header = jpeg2000_header(codec, stream)
    header.shape.require(codec, spec)
    if codec == HTJ2K.name:
        require_sound_main_header(codec, stream)
    with decoding(codec):
        import imagecodecs

        if codec == HTJ2K.name:
            samples = imagecodecs.htj2k_decode(stream, planar=False)
        else:
            samples = imagecodecs.jpeg2k_decode(stream, planar=False, numthreads=1)
    return fitting(codec, samples, spec), header


def _is_rgb(spec: FrameSpec) -> bool:
    """Whether the reversible colour transform is worth while: luminance and chroma are apart already in YBR."""
    return spec.samples_per_pixel == 3 and not spec.photometric_interpretation.startswith("YBR")
