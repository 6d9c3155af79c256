"""What the attributes of a data set must say after its Pixel Data has got another form (PS3.3 C.7.6.1, C.7.6.3)."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from leanpacs import __version__
from leanpacs.dicom import uids
from leanpacs.dicom.frames import FrameSpec
from leanpacs.transcode.target import Identity, Target

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

ONLY_ENCAPSULATED: Final = (
    "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths",
    "EncapsulatedPixelDataValueTotalLength",
)
"""Attributes that describe encapsulated Pixel Data as it was; they are written anew or not at all."""

LOSSY_METHODS: Final[Mapping[str, str]] = MappingProxyType(
    {
        uids.JPEG_BASELINE: "ISO_10918_1",
        uids.JPEG_EXTENDED: "ISO_10918_1",
        uids.JPEG_LS_NEAR_LOSSLESS: "ISO_14495_1",
        uids.JPEG_2000: "ISO_15444_1",
        uids.HTJ2K: "ISO_15444_15",
        uids.JPEG_XL_RECOMPRESSION: "ISO_10918_1",
        uids.JPEG_XL: "ISO_18181_1",
    }
)
"""Lossy Image Compression Method by transfer syntax (PS3.3 C.7.6.1.1.5.1); recompressed JPEG was lossy as JPEG."""

_ATTRIBUTES: Final = (
    ("SamplesPerPixel", "samples_per_pixel"),
    ("PhotometricInterpretation", "photometric_interpretation"),
    ("BitsAllocated", "bits_allocated"),
    ("BitsStored", "bits_stored"),
    ("HighBit", "high_bit"),
    ("PixelRepresentation", "pixel_representation"),
)
_LONGEST_DESCRIPTION: Final = 1024
_LONGEST_NAME: Final = 64
_LOSSY_COMPRESSION: Final = ("113040", "Lossy Compression")
_UNCOMPRESSED_PREDECESSOR: Final = ("121320", "Uncompressed predecessor")
_SOURCE_IMAGE: Final = ("121322", "Source image for image processing operation")
_MODIFYING_EQUIPMENT: Final = ("109103", "Modifying Equipment")


def image_pixel_changes(before: FrameSpec, after: FrameSpec) -> dict[str, Any]:
    """The Image Pixel attributes that have another value now; Planar Configuration wherever it must be there."""
    changes: dict[str, Any] = {
        keyword: getattr(after, field)
        for keyword, field in _ATTRIBUTES
        if getattr(after, field) != getattr(before, field)
    }
    if after.samples_per_pixel > 1:
        changes["PlanarConfiguration"] = after.planar_configuration
    return changes


def once_lossy_changes(head: Dataset, transfer_syntax: str) -> dict[str, Any]:
    """What a data set that was received in a lossy transfer syntax, and is no longer, must still say."""
    if head.get("LossyImageCompression") == "01":
        return {}
    changes: dict[str, Any] = {"LossyImageCompression": "01"}
    method = LOSSY_METHODS.get(transfer_syntax)
    if method and not head.get("LossyImageCompressionMethod"):
        changes["LossyImageCompressionMethod"] = method
    return changes


def lossy_changes(head: Dataset, target: Target, ratio: float) -> dict[str, Any]:
    """What a data set must say after lossy compression: it is another instance, derived from the one received.

    Parameters
    ----------
    head : Dataset
        As received.
    target : Target
        The new transfer syntax, what was asked for, and what the instance is called.
    ratio : float
        Native bytes to compressed bytes.

    References
    ----------
    PS3.3 C.7.6.1.1.2 (Image Type), C.7.6.1.1.5 (lossy image compression), C.12.1 (contributing equipment), C.12.4.1
    (derivation); PS3.16 CID 7202 and CID 7203.
    """
    was_lossy = head.get("LossyImageCompression") == "01"
    source = _coded_item(_SOURCE_IMAGE if was_lossy else _UNCOMPRESSED_PREDECESSOR)
    method, lossy = LOSSY_METHODS[target.transfer_syntax], target.options.lossy
    asked = f", {lossy.kind} {getattr(lossy, lossy.kind):g}" if lossy else ""
    text = f"{uids.transfer_syntax(target.transfer_syntax).name}{asked}, ratio {ratio:.4g}"
    return {
        "SOPInstanceUID": f"2.25.{uuid.uuid4().int}",
        "ImageType": ["DERIVED", *(_values(head, "ImageType")[1:] or ["PRIMARY"])],
        "LossyImageCompression": "01",
        "LossyImageCompressionRatio": [*_values(head, "LossyImageCompressionRatio"), f"{ratio:.6g}"],
        "LossyImageCompressionMethod": [*_values(head, "LossyImageCompressionMethod"), method],
        "DerivationDescription": _appended(str(head.get("DerivationDescription") or ""), text),
        "DerivationCodeSequence": [*(head.get("DerivationCodeSequence") or []), _code(_LOSSY_COMPRESSION)],
        "SourceImageSequence": [_reference(head, source)],
        # What the extremes were is no longer sure.
        "SmallestImagePixelValue": None,
        "LargestImagePixelValue": None,
        **(_named(head, target.identity) if target.identity else {}),
    }


def _named(head: Dataset, identity: Identity) -> dict[str, Any]:
    """UIDs of a copy in a series of its own: what made the source's series did not make this (PS3.3 A.1.2.3)."""
    described = str(head.get("SeriesDescription") or "")
    note = f"({identity.note})"[:_LONGEST_NAME]
    equipment = _coded_item(_MODIFYING_EQUIPMENT)
    equipment.Manufacturer, equipment.SoftwareVersions = "LeanPACS", __version__
    equipment.ContributionDescription = "Lossy compression"
    return {
        "StudyInstanceUID": identity.study_uid,
        "SeriesInstanceUID": identity.series_uid,
        "SOPInstanceUID": identity.sop_uid,
        "SeriesDescription": f"{described[: _LONGEST_NAME - len(note) - 1]} {note}".strip(),
        "ContributingEquipmentSequence": [*(head.get("ContributingEquipmentSequence") or []), equipment],
    }


def _values(head: Dataset, keyword: str) -> list[str]:
    value = head.get(keyword)
    if value is None or value == "":
        return []
    return [str(value)] if isinstance(value, str | int | float) else [str(one) for one in value]


def _appended(before: str, text: str) -> str:
    joined = f"{before}; {text}" if before else text
    return joined if len(joined) <= _LONGEST_DESCRIPTION else text


def _code(code: tuple[str, str]) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.CodeValue, item.CodeMeaning = code
    item.CodingSchemeDesignator = "DCM"
    return item


def _coded_item(purpose: tuple[str, str]) -> Dataset:
    from pydicom.dataset import Dataset

    item = Dataset()
    item.PurposeOfReferenceCodeSequence = [_code(purpose)]
    return item


def _reference(head: Dataset, item: Dataset) -> Dataset:
    item.ReferencedSOPClassUID = head.get("SOPClassUID", "")
    item.ReferencedSOPInstanceUID = head.get("SOPInstanceUID", "")
    return item
