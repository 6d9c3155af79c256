"""The suite, for every codec that encodes."""

from __future__ import annotations

import pytest

from contract.codec_suite import ByteCodecSuite, ImageCodecSuite, make_frame, make_spec
from leanpacs.codecs.registry import all_codecs, by_name


class TestJpegXL(ImageCodecSuite):
    codec = by_name("jpegxl")


class TestJpegXLEffort2(ImageCodecSuite):
    codec = by_name("jpegxl")
    effort = 2


class TestHTJ2K(ImageCodecSuite):
    codec = by_name("htj2k")


class TestJpegLS(ImageCodecSuite):
    codec = by_name("jpegls")


class TestJpeg2000(ImageCodecSuite):
    codec = by_name("jpeg2000")


class TestRle(ImageCodecSuite):
    codec = by_name("rle")
    has_size = False


class TestDelta(ImageCodecSuite):
    codec = by_name("delta")
    has_size = False


class TestZstd(ByteCodecSuite):
    codec = by_name("zstd")


class TestDeflatedFrame(ByteCodecSuite):
    codec = by_name("deflate")


class TestRaw(ByteCodecSuite):
    codec = by_name("raw")


def test_every_codec_that_encodes_runs_the_suite() -> None:
    suites = {suite.codec.name for kind in (ImageCodecSuite, ByteCodecSuite) for suite in kind.__subclasses__()}
    assert suites == {codec.name for codec in all_codecs()} - {"jpeg"}


@pytest.mark.parametrize("effort", range(1, 10))
def test_each_effort_of_jpegxl(effort: int) -> None:
    suite = TestJpegXL()
    suite.effort = effort  # type: ignore[misc]
    for spec in (make_spec(40, 30, stored=12, pixel_representation=1), make_spec(30, 40, allocated=8, samples=3)):
        suite.require_exact(make_frame(spec, "stripes"), spec)
