"""The result of an analysis: what was found, what each format would take, how it was measured; read from and as JSON.

All sizes are bytes, all times CPU seconds unless a name says otherwise.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

from leanpacs.errors import ReportError

VERSION: Final = 1
"""Of the JSON form; fields may be added without a new one."""

RAW: Final = "raw"
"""Key of the format that compresses nothing: native samples, head as it is."""

FOUND: Final = "found"
"""Key of the format that the files came in."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure for all files, projected from those measured, and its 95 % confidence interval.

    ``low`` and ``high`` equal ``value`` when every file was measured, and are None when the interval is not known.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class Format:
    """One way to hold instances.

    Parameters
    ----------
    key : str
        Name in ``--codecs`` and in this file, such as ``jpegxl-7``.
    label : str
        For people.
    family : str
        ``baseline`` (raw, found), ``general`` (compresses any bytes, head included), ``image`` (code streams of
        frames in a DICOM file, head as it is), ``web`` (image formats that DICOM has no transfer syntax for), or
        ``leanpacs`` (packs as the archive makes them).
    library : str
        Name and version of what encodes.
    transfer_syntax : str
        UID, '' where DICOM has none.
    """

    key: str
    label: str
    family: Literal["baseline", "general", "image", "web", "leanpacs"]
    library: str = ""
    transfer_syntax: str = ""


@dataclass(frozen=True, slots=True)
class FormatResult:
    """What one format does for one group of instances.

    Parameters
    ----------
    format : str
        Its key.
    held : float
        Fraction of the raw pixel bytes that it holds exactly; the rest is counted as raw in ``total_bytes``.
    total_bytes : Estimate
        Everything: heads, pixels, and what the format needs around them.
    ratio : Estimate
        ``total_bytes`` to the raw bytes of the group.
    pixel_ratio : float or None
        Of the pixel data alone, where it is held: bytes to native bytes, of those measured.
    encode_seconds_per_gb, decode_seconds_per_gb : float or None
        For 10**9 native bytes, one core.
    instances : int
        Measured and held exactly.
    not_exact : int
        Measured instances whose decoded samples were not those encoded; not counted as held.
    refusals : dict of str to int
        Why the format could not hold others, and how many.
    """

    format: str
    held: float
    total_bytes: Estimate
    ratio: Estimate
    pixel_ratio: float | None
    encode_seconds_per_gb: float | None
    decode_seconds_per_gb: float | None
    instances: int
    not_exact: int = 0
    refusals: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class HeadResult:
    """What a compressor does for heads: everything of an instance but its pixels."""

    format: str
    label: str
    ratio: float
    encode_seconds_per_gb: float


@dataclass(frozen=True, slots=True)
class Group:
    """Instances that have something in common.

    Parameters
    ----------
    key, name : str
        The value in the data sets (a UID, where it is one), and a name for people.
    instances, measured, studies : int
        Found; measured; distinct studies (an estimate within 3 % above 4096).
    found_bytes, raw_bytes, raw_pixel_bytes : int
        Files as found; with native pixels; the native pixels alone. Of all instances found, from their headers.
    formats : list of FormatResult
        By format, ``raw`` and ``found`` included.
    """

    key: str
    name: str
    instances: int
    measured: int
    studies: int
    found_bytes: int
    raw_bytes: int
    raw_pixel_bytes: int
    formats: list[FormatResult]

    def format(self, key: str) -> FormatResult:
        """The result of a format.

        Raises
        ------
        KeyError
            If it was not measured.
        """
        for result in self.formats:
            if result.format == key:
                return result
        raise KeyError(key)


@dataclass(frozen=True, slots=True)
class Link:
    """A line between the archive and a reader."""

    name: str
    bits_per_second: float


@dataclass(frozen=True, slots=True)
class Problem:
    """A file or folder that could not be measured, and why."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class OnDisk:
    """Whole files stored under a compressor.

    ``store_seconds_per_gb`` is wall time: read from memory, compressed, written, synced. ``encode_seconds_per_gb`` is
    the CPU time of compressing alone.
    """

    format: str
    label: str
    ratio: float
    encode_seconds_per_gb: float
    decode_seconds_per_gb: float
    store_seconds_per_gb: float


@dataclass(frozen=True, slots=True)
class LossyPoint:
    """One lossy setting over all frames measured with it. Means over frames.

    PSNR in dB and SSIM, on stored values and on the windowed 8-bit image; ``largest_error`` in stored values. PSNR is
    None when nothing differed.
    """

    family: str
    setting: str
    modality: str
    frames: int
    ratio: float
    psnr: float | None
    ssim: float
    windowed_psnr: float | None
    windowed_ssim: float
    largest_error: float
    encode_seconds_per_gb: float
    decode_seconds_per_gb: float


@dataclass(frozen=True, slots=True)
class Stage:
    """The image as it looks when so many bytes have come.

    ``received`` is a fraction of the raw frame; ``complete`` of the code stream. PSNR and SSIM are of the windowed
    image; PSNR is None when nothing differs.
    """

    received: float
    complete: float
    psnr: float | None
    ssim: float
    verdict: Literal["not yet", "overview", "good", "exact"]


@dataclass(frozen=True, slots=True)
class Progressive:
    """How a frame appears while its code stream arrives; means over frames.

    ``cost`` is the size of the progressive code stream to the size of the best plain one of the same codec.
    """

    family: str
    label: str
    modality: str
    frames: int
    frame_bytes: float
    cost: float
    stages: list[Stage]


@dataclass(frozen=True, slots=True)
class Machine:
    """What it was measured on."""

    processor: str
    cores: int
    system: str
    python: str
    leanpacs: str
    libraries: dict[str, str]


@dataclass(frozen=True, slots=True)
class Run:
    """How it was asked, and what became of it.

    ``finished`` is False when it was stopped early: figures are then of what was measured till then.
    """

    made_at: str
    paths: list[str]
    sample: str
    jobs: int
    finished: bool
    wall_seconds: float
    measuring_seconds: float


@dataclass(frozen=True, slots=True)
class Analysis:
    """Everything; see docs/explanation/what-the-figures-mean.md."""

    version: int
    run: Run
    machine: Machine
    links: list[Link]
    formats: list[Format]
    total: Group
    by_modality: list[Group]
    by_sop_class: list[Group]
    by_manufacturer: list[Group]
    by_transfer_syntax: list[Group]
    heads: list[HeadResult]
    on_disk: list[OnDisk]
    lossy: list[LossyPoint]
    progressive: list[Progressive]
    files: int
    skipped: int
    problems: list[Problem]
    problem_count: int

    def to_json(self) -> str:
        """As JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False)

    def format(self, key: str) -> Format:
        """The format of a key.

        Raises
        ------
        KeyError
            If it was not measured.
        """
        for one in self.formats:
            if one.key == key:
                return one
        raise KeyError(key)


def load(path: Path) -> Analysis:
    """Read what ``leanpacs analyze --json`` wrote.

    Raises
    ------
    ReportError
        If it is something else, or of a later version.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReportError(f"{path} cannot be read: {error}") from error
    return from_json(record, str(path))


def from_json(record: Any, name: str = "the analysis") -> Analysis:
    """Build an analysis from parsed JSON; fields of later minor additions are ignored.

    Raises
    ------
    ReportError
        If it is something else, or of a later version.
    """
    if not isinstance(record, dict) or record.get("version") != VERSION:
        raise ReportError(f"{name} is no analysis of version {VERSION}")
    try:
        return _built(Analysis, record)
    except (KeyError, TypeError, ValueError) as error:
        raise ReportError(f"{name} is no analysis: {error!r}") from error


def _built(kind: type[T], record: dict[str, Any]) -> T:
    hints = typing.get_type_hints(kind)
    given: dict[str, Any] = {}
    for one in dataclasses.fields(typing.cast("Any", kind)):
        if one.name in record:
            given[one.name] = _value(hints[one.name], record[one.name])
    return kind(**given)


def _value(hint: Any, value: Any) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _value(next(one for one in arguments if one is not type(None)), value)
    if origin is list:
        return [_value(arguments[0], one) for one in value]
    if dataclasses.is_dataclass(hint):
        return _built(typing.cast("type[Any]", hint), value)
    return value
