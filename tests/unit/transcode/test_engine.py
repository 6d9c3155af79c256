"""The engine on made instances: pixels by other readers, headers by the standard, refusals with reasons."""

from __future__ import annotations

import io
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

import numpy as np
import pydicom
import pytest

import data
from data import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, JPEG_BASELINE, JPEG_LS, RLE, Recipe, make_instance
from leanpacs.codecs.writing import Lossy, WriteOptions, writable, write_refusal
from leanpacs.dicom import uids
from leanpacs.dicom.frames import frame_spec
from leanpacs.dicom.write import IMPLEMENTATION_CLASS_UID
from leanpacs.errors import DecodeError, DicomError, UnsupportedTransferSyntax, VerificationError
from leanpacs.transcode import Target, Transcoder, Verify, targets
from leanpacs.transcode.frames import FrameResult
from leanpacs.transcode.spool import StreamSpool
from transcoding import NATIVE, opened, read_elsewhere, transcoded

GRAY = Recipe(frames=3)
KINDS = {
    "gray": GRAY,
    "signed": replace(GRAY, signed=True, bits_stored=12),
    "gray 8": Recipe(bits_allocated=8, bits_stored=8, rows=31, columns=23, frames=2),
    "signed 8": Recipe(bits_allocated=8, bits_stored=8, signed=True),
    "16 of 16": Recipe(bits_stored=16, content="noise"),
    "planar": Recipe(modality="US", samples=3, bits_allocated=8, bits_stored=8, planar=1, frames=2),
    "colour": Recipe(modality="US", samples=3, bits_allocated=8, bits_stored=8, icon=True),
    "ybr": Recipe(modality="US", samples=3, bits_allocated=8, bits_stored=8, photometric="YBR_FULL"),
    "4:2:2": Recipe(modality="US", samples=3, bits_allocated=8, bits_stored=8, photometric="YBR_FULL_422"),
    "palette": Recipe(modality="US", bits_allocated=8, bits_stored=8, photometric="PALETTE COLOR"),
    "1 bit": Recipe(modality="SEG", rows=5, columns=7, frames=4, bits_allocated=1, bits_stored=1),
    "32 bit": Recipe(bits_allocated=32, bits_stored=32, frames=2),
    "float": Recipe(bits_allocated=32, kind="float"),
    "double": Recipe(bits_allocated=64, kind="float", frames=2),
    "dirty": Recipe(bits_stored=10, dirty_bits=True),
}
# What image codecs do not hold: floating point by any, 1 and 32 bits by most.
BYTEWISE = (RLE, uids.DEFLATED_FRAME, uids.ENCAPSULATED_UNCOMPRESSED)
REFUSED = {
    target: {"float", "double", *(() if target in BYTEWISE else ("1 bit", "32 bit"))}
    | ({"1 bit"} if target == RLE else set())
    for target in writable()
}
LOSSLESS = [uid for uid in targets() if uids.transfer_syntax(uid).lossless is not False]


def header(content: bytes) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(content))


def others(ds: pydicom.Dataset) -> list[pydicom.DataElement]:
    """All elements that transcoding must leave alone."""
    described = {"PhotometricInterpretation", "PlanarConfiguration", "IconImageSequence"}
    return [element for element in ds if element.keyword not in described and not element.keyword.endswith("PixelData")]


@pytest.mark.parametrize("target", LOSSLESS, ids=lambda uid: uids.transfer_syntax(uid).keyword)
@pytest.mark.parametrize("source", [EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE, data.DEFLATED_LE])
@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_the_same_elsewhere_or_the_target_refuses(kind: str, source: str, target: str) -> None:
    content = make_instance(replace(KINDS[kind], transfer_syntax=source))
    if kind in REFUSED.get(target, ()):
        with pytest.raises(UnsupportedTransferSyntax, match=r"bits|floating point"):
            transcoded(content, target)
        return
    made, account = transcoded(content, Target(target, anew=True))
    assert account.transfer_syntax == target == header(made).file_meta.TransferSyntaxUID
    assert not account.lossy
    found = read_elsewhere(made)
    if found is None:
        pytest.skip("no other decoder of these frames is installed")
    if kind == "dirty":  # pydicom takes away what stands above Bits Stored in native Pixel Data
        found = found & 0x3FF
    assert np.array_equal(found, read_elsewhere(content))
    assert others(header(made)) == others(header(content))
    assert bool(account.checked_by) is (target not in NATIVE)


@pytest.mark.parametrize("source", [RLE, JPEG_LS, data.JPEG_2000, data.HTJ2K, data.JPEG_LOSSLESS])
@pytest.mark.parametrize("target", [*NATIVE, RLE, JPEG_LS, data.JPEG_XL, uids.DEFLATED_FRAME])
def test_encapsulated_instances_become_others(source: str, target: str) -> None:
    recipe = Recipe(bits_allocated=8, bits_stored=8, frames=3, fragments=2 if source == RLE else 1)
    content = make_instance(replace(recipe, transfer_syntax=source))
    made, _ = transcoded(content, target)
    assert np.array_equal(read_elsewhere(made), read_elsewhere(make_instance(recipe)))


@pytest.mark.parametrize("target", LOSSLESS, ids=lambda uid: uids.transfer_syntax(uid).keyword)
def test_bits_above_bits_stored_come_back(target: str) -> None:
    content = make_instance(KINDS["dirty"])
    native, _ = transcoded(transcoded(content, target)[0], EXPLICIT_LE)
    assert header(native).PixelData == header(content).PixelData


def test_every_frame_of_one_bit_starts_where_the_last_ended() -> None:
    recipe = replace(KINDS["1 bit"], content="noise")
    encapsulated, _ = transcoded(make_instance(recipe), uids.ENCAPSULATED_UNCOMPRESSED)
    native, _ = transcoded(encapsulated, EXPLICIT_LE)
    assert header(native).PixelData == header(make_instance(recipe)).PixelData


@pytest.mark.parametrize("target", NATIVE)
def test_words_that_a_sender_called_bytes_are_words(target: str) -> None:
    content = make_instance(GRAY)
    mistaken = content.replace(b"\xe0\x7f\x10\x00OW", b"\xe0\x7f\x10\x00OB")
    assert mistaken != content
    made, _ = transcoded(mistaken, Target(target, anew=True))
    assert header(made)["PixelData"].VR == "OW"
    assert np.array_equal(read_elsewhere(made), read_elsewhere(content))


class TestUnchanged:
    def test_what_is_as_wanted_passes_byte_for_byte(self) -> None:
        content = make_instance(replace(GRAY, transfer_syntax=RLE, offset_table="empty"))
        made, account = transcoded(content, RLE)
        assert (made, account.unchanged) == (content, True)

    def test_unless_asked_otherwise(self) -> None:
        content = make_instance(replace(GRAY, transfer_syntax=RLE, offset_table="empty"))
        made, account = transcoded(content, Target(RLE, anew=True))
        assert made != content
        assert not account.unchanged

    def test_a_bare_data_set_gets_file_meta(self) -> None:
        bare = make_instance(replace(GRAY, file_meta=False))
        made, _ = transcoded(bare, EXPLICIT_LE)
        assert made.endswith(bare)
        assert header(made).file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID

    def test_a_lossless_code_stream_is_one_of_the_general_syntax(self) -> None:
        content = make_instance(replace(GRAY, transfer_syntax=JPEG_LS))
        made, _ = transcoded(content, uids.JPEG_LS_NEAR_LOSSLESS)
        assert header(made).PixelData == header(content).PixelData
        assert header(made).file_meta.TransferSyntaxUID == uids.JPEG_LS_NEAR_LOSSLESS


class TestHeaders:
    def test_file_meta_names_us(self) -> None:
        made, _ = transcoded(make_instance(GRAY), RLE)
        assert header(made).file_meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
        assert header(made).file_meta.MediaStorageSOPInstanceUID == GRAY.sop_uid

    def test_colour_is_described_as_the_code_stream_has_it(self) -> None:
        made, _ = transcoded(make_instance(replace(KINDS["planar"], planar=1)), data.JPEG_2000)
        ds = header(made)
        assert (ds.PhotometricInterpretation, ds.PlanarConfiguration, ds.SamplesPerPixel) == ("YBR_RCT", 0, 3)
        assert ds["PixelData"].VR == "OB"

    def test_the_basic_offset_table_points_at_frames(self) -> None:
        made, _ = transcoded(make_instance(GRAY), RLE)
        offsets = pydicom.encaps.parse_basic_offsets(header(made).PixelData)
        assert len(offsets) == 3
        assert offsets[0] == 0
        assert "ExtendedOffsetTable" not in header(made)

    def test_icons_become_what_the_main_pixel_data_becomes(self) -> None:
        content = make_instance(KINDS["colour"])
        made, _ = transcoded(content, JPEG_LS)
        icon = header(made).IconImageSequence[0]
        assert icon["PixelData"].is_undefined_length
        again, _ = transcoded(made, EXPLICIT_LE)
        assert header(again).IconImageSequence[0].PixelData == header(content).IconImageSequence[0].PixelData

    def test_what_was_lossy_says_so_for_ever(self) -> None:
        content = make_instance(Recipe(bits_allocated=8, bits_stored=8, transfer_syntax=JPEG_BASELINE))
        ds = header(transcoded(content, EXPLICIT_LE)[0])
        assert (ds.LossyImageCompression, ds.LossyImageCompressionMethod) == ("01", "ISO_10918_1")

    @pytest.mark.parametrize("signed", [False, True])
    @pytest.mark.parametrize("source", [IMPLICIT_LE, EXPLICIT_BE])
    def test_extremes_have_the_vr_of_the_samples(self, source: str, signed: bool) -> None:
        ds = header(make_instance(replace(GRAY, signed=signed)))
        ds.add_new(0x00280106, "SS" if signed else "US", -5 if signed else 5)
        ds.file_meta.TransferSyntaxUID = source
        file = io.BytesIO()
        if source == EXPLICIT_BE:
            ds.PixelData = np.frombuffer(ds.PixelData, "<u2").byteswap().tobytes()
        pydicom.dcmwrite(file, ds, implicit_vr=source == IMPLICIT_LE, little_endian=source == IMPLICIT_LE)
        made = header(transcoded(file.getvalue(), RLE)[0])
        assert (made[0x00280106].VR, made[0x00280106].value) == (("SS", -5) if signed else ("US", 5))


class TestLossy:
    OPTIONS = WriteOptions(lossy=Lossy(near=3))

    def _made(self, content: bytes) -> pydicom.Dataset:
        made, account = transcoded(content, Target(uids.JPEG_LS_NEAR_LOSSLESS, self.OPTIONS))
        assert account.lossy
        assert account.sop_uid == header(made).SOPInstanceUID == header(made).file_meta.MediaStorageSOPInstanceUID
        return header(made)

    def test_it_is_another_instance_derived_from_the_one_received(self) -> None:
        received = header(make_instance(GRAY))
        ds = self._made(make_instance(GRAY))
        assert ds.SOPInstanceUID != GRAY.sop_uid
        assert ds.ImageType[0] == "DERIVED"
        assert ds.SourceImageSequence[0].ReferencedSOPInstanceUID == GRAY.sop_uid
        assert ds.SourceImageSequence[0].ReferencedSOPClassUID == received.SOPClassUID
        assert ds.DerivationCodeSequence[0].CodeValue == "113040"
        assert "JPEG-LS" in ds.DerivationDescription
        assert (ds.LossyImageCompression, ds.LossyImageCompressionMethod) == ("01", "ISO_14495_1")
        length = len(header(make_instance(GRAY)).PixelData)
        assert float(ds.LossyImageCompressionRatio) == pytest.approx(length / len(ds.PixelData), rel=0.2)

    def test_no_sample_is_further_off_than_asked(self) -> None:
        made, _ = transcoded(make_instance(GRAY), Target(uids.JPEG_LS_NEAR_LOSSLESS, self.OPTIONS))
        found, expected = (read_elsewhere(content).astype(int) for content in (made, make_instance(GRAY)))
        assert 0 < np.abs(found - expected).max() <= 3

    def test_what_was_lossy_before_keeps_its_history(self) -> None:
        once = io.BytesIO()
        self._made(make_instance(GRAY)).save_as(once)
        native, _ = transcoded(once.getvalue(), EXPLICIT_LE)
        twice = self._made(native)
        assert list(twice.LossyImageCompressionMethod) == ["ISO_14495_1", "ISO_14495_1"]
        assert len(twice.LossyImageCompressionRatio) == 2
        assert len(twice.DerivationDescription.split(";")) == 2

    def test_a_target_that_is_always_lossy_wants_to_be_told_how_much(self) -> None:
        content = make_instance(Recipe(bits_allocated=8, bits_stored=8))
        with pytest.raises(UnsupportedTransferSyntax, match="must be said"):
            transcoded(content, JPEG_BASELINE)


class TestRefusals:
    def test_private_transfer_syntaxes(self) -> None:
        content = make_instance(GRAY).replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.113619.5.2\0\0")
        with pytest.raises(UnsupportedTransferSyntax, match="private"):
            transcoded(content, RLE)

    @pytest.mark.parametrize("target", [EXPLICIT_LE, RLE, IMPLICIT_LE])
    def test_damaged_data_sets(self, target: str) -> None:
        with pytest.raises(DicomError, match="damaged"):
            transcoded(make_instance(GRAY)[:-5], target)

    def test_damaged_code_streams(self) -> None:
        content = bytearray(make_instance(replace(GRAY, transfer_syntax=JPEG_LS)))
        position = content.index(b"\xff\xf7") + 4
        content[position] = 77
        with pytest.raises(DecodeError, match="frame 1"):
            transcoded(bytes(content), EXPLICIT_LE)

    def test_unknown_targets(self) -> None:
        with pytest.raises(UnsupportedTransferSyntax):
            Target("1.2.840.10008.1.2.4.103")

    def test_recompression_takes_jpeg_only(self) -> None:
        with pytest.raises(UnsupportedTransferSyntax, match="JPEG"):
            transcoded(make_instance(GRAY), uids.JPEG_XL_RECOMPRESSION)


class TestRecompression:
    CONTENT = Recipe(rows=128, columns=128, bits_allocated=8, bits_stored=8, frames=2, transfer_syntax=JPEG_BASELINE)

    def test_the_jpeg_comes_back_byte_for_byte(self) -> None:
        content = make_instance(self.CONTENT)
        made, account = transcoded(content, uids.JPEG_XL_RECOMPRESSION)
        assert not account.lossy
        assert header(made).SOPInstanceUID == self.CONTENT.sop_uid
        again, _ = transcoded(made, JPEG_BASELINE)
        streams = [
            list(pydicom.encaps.generate_frames(header(one).PixelData, number_of_frames=2)) for one in (content, again)
        ]
        assert streams[0] == streams[1]

    def test_it_decodes_to_the_same_samples(self) -> None:
        made, _ = transcoded(make_instance(self.CONTENT), uids.JPEG_XL_RECOMPRESSION)
        native = read_elsewhere(transcoded(make_instance(self.CONTENT), EXPLICIT_LE)[0]).astype(int)
        assert np.abs(read_elsewhere(transcoded(made, EXPLICIT_LE)[0]).astype(int) - native).max() <= 2


class TestVerification:
    def test_a_second_decoder_is_asked_and_named(self) -> None:
        _, account = transcoded(make_instance(GRAY), Target(JPEG_LS, verify=Verify.SECOND))
        assert len(account.checked_by) == 2

    def test_none(self) -> None:
        _, account = transcoded(make_instance(GRAY), Target(JPEG_LS, verify=Verify.NONE))
        assert account.checked_by == ()

    def test_a_wrong_frame_is_never_given(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from leanpacs.transcode import frames

        real = frames.write_frame
        monkeypatch.setattr(frames, "write_frame", lambda samples, *rest: real(samples ^ 1, *rest))
        with pytest.raises(VerificationError, match="frame 1"):
            transcoded(make_instance(GRAY), JPEG_LS)


def test_without_pixel_data_only_the_headers_change() -> None:
    content = make_instance(Recipe(modality="SR", kind="none"))
    made, account = transcoded(content, JPEG_LS)
    assert account.transfer_syntax == EXPLICIT_LE == header(made).file_meta.TransferSyntaxUID
    assert account.notes
    implicit, _ = transcoded(content, IMPLICIT_LE)
    assert header(implicit).to_json_dict() == header(content).to_json_dict()


def test_a_deflated_data_set_is_of_even_length_and_inflates() -> None:
    made, _ = transcoded(make_instance(GRAY), uids.DEFLATED_LE)
    with opened(made) as source:
        body = made[source.layout.preface_length :]
    assert len(body) % 2 == 0
    assert zlib.decompressobj(-15).decompress(body)


class TestOffsetTables:
    @staticmethod
    @contextmanager
    def _spool(limit: int) -> Iterator[StreamSpool]:
        with closing(StreamSpool(None, longest_basic_offset=limit)) as spool:
            for stream in (b"first", b"second!", b"third"):
                spool.add(stream)
            yield spool

    def test_basic_where_it_is_long_enough(self) -> None:
        with self._spool(30) as spool:
            value, changes = b"".join(spool.value()), spool.table_changes()
        assert changes == {}
        assert pydicom.encaps.parse_basic_offsets(value) == [0, 14, 30]

    def test_extended_where_not_and_never_both(self) -> None:
        with self._spool(29) as spool:
            value, changes = b"".join(spool.value()), spool.table_changes()
        assert pydicom.encaps.parse_basic_offsets(value) == []
        table = {keyword: np.frombuffer(one, "<u8").tolist() for keyword, one in changes.items()}
        assert table == {"ExtendedOffsetTable": [0, 14, 30], "ExtendedOffsetTableLengths": [5, 7, 5]}

    def test_an_instance_with_an_extended_table(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from leanpacs.transcode import engine

        monkeypatch.setattr(engine, "StreamSpool", lambda folder: StreamSpool(folder, longest_basic_offset=100))
        made, _ = transcoded(make_instance(GRAY), RLE)
        frames = pydicom.encaps.generate_frames(
            header(made).PixelData,
            number_of_frames=3,
            extended_offsets=(header(made).ExtendedOffsetTable, header(made).ExtendedOffsetTableLengths),
        )
        assert len(list(frames)) == 3
        assert np.array_equal(read_elsewhere(made), read_elsewhere(make_instance(GRAY)))


def test_one_frame_at_a_time() -> None:
    with opened(make_instance(GRAY)) as source:
        result = Transcoder().frame(source, Target(RLE), 2)
        assert isinstance(result, FrameResult)
        whole = header(transcoded(make_instance(GRAY), RLE)[0])
    assert list(pydicom.encaps.generate_frames(whole.PixelData, number_of_frames=3))[1].startswith(result.data)


def test_refusals_are_those_of_the_writers() -> None:
    with opened(make_instance(KINDS["32 bit"])) as source:
        assert source.layout.pixel is not None
        spec = frame_spec(source.layout.elements, source.layout.pixel)
        for target in writable():
            reason = write_refusal(spec, target, WriteOptions())
            if reason is not None:
                with pytest.raises(UnsupportedTransferSyntax) as refused:
                    Transcoder().data_set(source, Target(target))
                assert str(refused.value) == reason
