"""Codecs that hold the native bytes of a frame, whatever they mean: they refuse nothing and rebuild everything."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod

from leanpacs.codecs.codec import DecodedFrame, EncodeOptions, Samples, decoding, encoding
from leanpacs.codecs.native import pack, unpack, unpack_subsampled
from leanpacs.codecs.samples import decoded_spec
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import DecodeError, UnsupportedFrame


class Bytewise(ABC):
    """Samples by way of native bytes, for codecs that say what to do with those."""

    name: str
    extension: str

    def refusal(self, spec: FrameSpec) -> str | None:
        """Refuse nothing."""
        return None

    def encode(self, samples: Samples, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Compress the little endian bytes of the samples."""
        return self.encode_bytes(pack(samples, spec), spec, options)

    def decode(self, stream: bytes, spec: FrameSpec, options: EncodeOptions) -> Samples:
        """Return the samples of a code stream made by :meth:`encode`."""
        try:
            return unpack(self.decode_bytes(stream, spec), spec)
        except UnsupportedFrame as error:
            raise DecodeError(self.name, error.reason) from error

    def decode_received(self, stream: bytes, spec: FrameSpec) -> DecodedFrame:
        """Decode what came from elsewhere; it is little endian (PS3.5 A.4)."""
        if spec.is_subsampled:
            return self._subsampled(stream, spec)
        samples = self.decode(stream, spec, EncodeOptions(0, spec.bits_allocated))
        return DecodedFrame(samples, spec.but(planar_configuration=0))

    def _subsampled(self, stream: bytes, spec: FrameSpec) -> DecodedFrame:
        try:
            samples = unpack_subsampled(self.decode_bytes(stream, spec), spec)
        except UnsupportedFrame as error:
            raise DecodeError(self.name, error.reason) from error
        return DecodedFrame(samples, decoded_spec(spec))

    @abstractmethod
    def encode_bytes(self, frame: bytes, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Compress the native bytes of one frame."""

    @abstractmethod
    def decode_bytes(self, stream: bytes, spec: FrameSpec) -> bytes:
        """Return the native bytes of the frame."""


class Zstd(Bytewise):
    """The native bytes of a frame in one Zstandard frame (RFC 8878), with content size and checksum."""

    name = "zstd"
    extension = "zst"

    def library(self) -> str:
        """Return name and version of what encodes."""
        import zstandard

        version = ".".join(map(str, zstandard.ZSTD_VERSION))
        return f"zstandard {zstandard.__version__} / zstd {version}"

    def encode_bytes(self, frame: bytes, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Compress the native bytes of one frame; ``effort`` is the level, 1 to 22."""
        with encoding(self.name):
            import zstandard

            return zstandard.ZstdCompressor(level=options.effort, write_checksum=True).compress(frame)

    def decode_bytes(self, stream: bytes, spec: FrameSpec) -> bytes:
        """Return the native bytes of the frame."""
        expected = _length(spec)
        with decoding(self.name):
            import zstandard

            declared = zstandard.frame_content_size(stream)
            if declared != expected:
                raise DecodeError(self.name, f"{declared} bytes are no frame of {expected}")
            return zstandard.ZstdDecompressor().decompress(stream, max_output_size=expected)


class DeflatedFrame(Bytewise):
    """Deflated Image Frame Compression: the native bytes of a frame, deflated (RFC 1951; PS3.5 A.4.14)."""

    name = "deflate"
    extension = "dfl"

    def library(self) -> str:
        """Return name and version of what encodes."""
        return f"zlib {zlib.ZLIB_RUNTIME_VERSION}"

    def encode_bytes(self, frame: bytes, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Compress the native bytes of one frame; ``effort`` is the level, 1 to 9."""
        with encoding(self.name):
            deflate = zlib.compressobj(options.effort, wbits=-zlib.MAX_WBITS)
            return deflate.compress(frame) + deflate.flush()

    def decode_bytes(self, stream: bytes, spec: FrameSpec) -> bytes:
        """Return the native bytes of the frame; padding after them is dropped."""
        expected = _length(spec)
        with decoding(self.name):
            inflate = zlib.decompressobj(-zlib.MAX_WBITS)
            frame = inflate.decompress(stream, expected + 2)
        return _unpadded(self.name, frame, expected)


class Raw(Bytewise):
    """Encapsulated Uncompressed: the native bytes of a frame as they are (PS3.5 A.4.15)."""

    name = "raw"
    extension = "raw"

    def library(self) -> str:
        """Return a dash: no library is used."""
        return "-"

    def encode_bytes(self, frame: bytes, spec: FrameSpec, options: EncodeOptions) -> bytes:
        """Return the frame."""
        return frame

    def decode_bytes(self, stream: bytes, spec: FrameSpec) -> bytes:
        """Return the frame without padding to even length."""
        return _unpadded(self.name, stream, _length(spec))


def _length(spec: FrameSpec) -> int:
    return -(-spec.frame_bits // 8)


def _unpadded(codec: str, frame: bytes, expected: int) -> bytes:
    """Drop one byte of padding to even length."""
    if not expected <= len(frame) <= expected + expected % 2:
        raise DecodeError(codec, f"{len(frame)} bytes are no frame of {expected}")
    return frame[:expected]
