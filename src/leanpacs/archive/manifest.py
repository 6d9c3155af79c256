"""The manifest of a pack: what it holds and how the received bytes are rebuilt from it.

The format is documented in docs/reference/pack-format.md; packs of every release must be readable for ever, so
fields are only added, never changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import accumulate, pairwise
from typing import Any

from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import PackError
from leanpacs.refs import Digest

FORMAT_VERSION = 1

_COMPACT = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)

MANIFEST = "manifest.json"
HEAD = "head.zst"
TAIL = "tail.zst"
SKELETON = "layout.zst"

AS_RECEIVED = "received"
"""Kind of the recipe of a frame that is held as it was received."""


class Form(StrEnum):
    """How the data set is held in the pack."""

    WHOLE = "whole"
    """All of it in the head entry."""
    FRAMES = "frames"
    """Head, one code stream of ours for each native frame, tail."""
    STREAMS = "streams"
    """Head, the received code streams by frame, the skeleton of their encapsulation, tail."""
    RECODED = "recoded"
    """The same, but code streams from which the received ones can be made again."""


@dataclass(frozen=True, slots=True)
class PixelCoding:
    """How frames became code streams of ours (forms ``frames`` and ``recoded``).

    Parameters
    ----------
    codec, effort, precision, library : str, int, int, str
        What encoded the frames; ``precision`` is the number of bits the values were held to be in (form ``recoded``:
        of the first frame, each recipe says its own).
    spec : FrameSpec
        The frames as they were laid out, or as the data set says.
    big_endian : bool
        Whether samples were in big endian order.
    trailing : int
        Number of bytes of the value after the last frame; they stand at the start of the unpacked tail.
    levels : tuple of int
        Stored values, ascending, whose indexes the code streams hold; () when they hold the values themselves.
    """

    codec: str
    effort: int
    precision: int
    library: str
    spec: FrameSpec
    big_endian: bool
    trailing: int
    levels: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Recipes:
    """How the received code streams are made again (form ``recoded``).

    Parameters
    ----------
    distinct : tuple of mapping
        Each different recipe once, as :mod:`leanpacs.codecs.legacy` gave it; kind ``received`` for a frame that is held
        as it was, with the end of its entry's name in ``ext``.
    of_frame : tuple of int
        Index of each frame's recipe.
    """

    distinct: tuple[Mapping[str, Any], ...] = ()
    of_frame: tuple[int, ...] = ()

    @classmethod
    def of(cls, recipes: Sequence[Mapping[str, Any]]) -> Recipes:
        """Those of all frames in order."""
        places: dict[str, int] = {}
        of_frame = tuple(places.setdefault(json.dumps(dict(recipe)), len(places)) for recipe in recipes)
        return cls(tuple(json.loads(text) for text in places), of_frame)

    @property
    def size_bytes(self) -> int:
        """Bytes that they take in a manifest, about."""
        indexes = self.of_frame if len(self.distinct) > 1 else ()
        return len(json.dumps([self.distinct, indexes], separators=(",", ":")))

    def __getitem__(self, number: int) -> Mapping[str, Any]:
        """The recipe of frame ``number`` (from 1)."""
        return self.distinct[self.of_frame[number - 1]]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.distinct)


@dataclass(frozen=True, slots=True)
class Received:
    """How and when the instance came: ISO 8601 UTC time, sender (AE title, user or path), door."""

    at: str
    sender: str
    door: str


@dataclass(frozen=True, slots=True)
class Made:
    """How a pack came to be; only packs that passed the check are kept.

    Parameters
    ----------
    at : str
        ISO 8601 UTC time when the frames had been encoded.
    by : str
        Program and version.
    seconds : float
        How long choosing a codec and encoding took.
    preset : str
        What the codec was chosen by; '' when nothing was encoded.
    decoder : str
        What decoded the pack for the check.
    """

    at: str
    by: str
    seconds: float
    preset: str
    decoder: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """All facts of a pack; see docs/reference/pack-format.md for each field."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class: str
    transfer_syntax: str
    length: int
    digest: Digest
    form: Form
    received: Received
    preface: int = 0
    file_digest: Digest | None = None
    assigned: tuple[str, ...] = ()
    reason: str = ""
    pixel: PixelCoding | None = None
    stream_frames: int = 0
    extension: str = ""
    fragments: tuple[int, ...] = ()
    samples_digest: Digest | None = None
    recipes: Recipes = Recipes()
    made: Made | None = None

    @property
    def frames(self) -> int:
        """Number of frame entries in the pack."""
        return self.pixel.spec.number_of_frames if self.pixel else self.stream_frames

    def frame_name(self, number: int) -> str:
        """Entry name of frame ``number`` (from 1)."""
        extension = self.recipes[number].get("ext", self.extension) if self.recipes else self.extension
        return frame_name(number, extension)

    def to_json(self) -> bytes:
        """The manifest as compact UTF-8 JSON."""
        record: dict[str, Any] = {
            "leanpacs": FORMAT_VERSION,
            "study": self.study_uid,
            "series": self.series_uid,
            "instance": self.sop_uid,
            "class": self.sop_class,
            "syntax": self.transfer_syntax,
            "length": self.length,
            "sha256": self.digest.hex,
            "form": str(self.form),
            "received": {"at": self.received.at, "from": self.received.sender, "door": self.received.door},
        }
        optional: dict[str, Any] = {
            "preface": self.preface,
            "file_sha256": self.file_digest.hex if self.file_digest else None,
            "assigned": list(self.assigned),
            "reason": self.reason,
            "pixel": _pixel_record(self),
            "fragments": list(self.fragments),
            "samples_sha256": self.samples_digest.hex if self.samples_digest else None,
            "recipes": list(self.recipes.distinct),
            "recipe_of": list(self.recipes.of_frame) if len(self.recipes.distinct) > 1 else None,
            "made": _made_record(self),
        }
        record.update({key: value for key, value in optional.items() if value})
        return _COMPACT.encode(record).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Manifest:
        """Parse a manifest.

        Raises
        ------
        PackError
            If it is not JSON, of a later format version, or a field is missing or of the wrong kind.
        """
        try:
            record = json.loads(text)
            version = record["leanpacs"]
            if version != FORMAT_VERSION:
                raise PackError(f"the pack is of format {version}; this release reads format {FORMAT_VERSION}")
            return _parse(record)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise PackError(f"the manifest is not valid: {error!r}") from error


def frame_name(number: int, extension: str) -> str:
    """Entry name of frame ``number`` (from 1)."""
    return f"frames/{number:05d}.{extension}"


def _pixel_record(manifest: Manifest) -> dict[str, Any] | None:
    coding = manifest.pixel
    if coding is None:
        if not manifest.stream_frames:
            return None
        return {"frames": manifest.stream_frames, "codec": manifest.extension}
    spec = coding.spec
    record = {
        "codec": coding.codec,
        "ext": manifest.extension,
        "effort": coding.effort,
        "precision": coding.precision,
        "library": coding.library,
        "frames": spec.number_of_frames,
        "rows": spec.rows,
        "columns": spec.columns,
        "samples": spec.samples_per_pixel,
        "allocated": spec.bits_allocated,
        "stored": spec.bits_stored,
        "high": spec.high_bit,
        "signed": spec.pixel_representation,
        "planar": spec.planar_configuration,
        "photometric": spec.photometric_interpretation,
        "kind": spec.kind,
        "big_endian": int(coding.big_endian),
        "trailing": coding.trailing,
        "full_chroma": int(spec.full_chroma),
    }
    if coding.levels:
        steps = [after - before for before, after in pairwise(coding.levels)]
        record["levels"] = [coding.levels[0], *steps]
    return record


def _parse(record: dict[str, Any]) -> Manifest:
    form = Form(record["form"])
    pixel = record.get("pixel") or {}
    coding = _parse_coding(pixel) if form in (Form.FRAMES, Form.RECODED) else None
    received = record["received"]
    return Manifest(
        study_uid=record["study"],
        series_uid=record["series"],
        sop_uid=record["instance"],
        sop_class=record["class"],
        transfer_syntax=record["syntax"],
        length=int(record["length"]),
        digest=Digest.from_hex(record["sha256"]),
        form=form,
        received=Received(received["at"], received["from"], received["door"]),
        preface=int(record.get("preface", 0)),
        file_digest=Digest.from_hex(record["file_sha256"]) if "file_sha256" in record else None,
        assigned=tuple(record.get("assigned", ())),
        reason=record.get("reason", ""),
        pixel=coding,
        stream_frames=int(pixel["frames"]) if form is Form.STREAMS else 0,
        extension=pixel["ext"] if coding else pixel.get("codec", ""),
        fragments=tuple(int(n) for n in record.get("fragments", ())),
        samples_digest=Digest.from_hex(record["samples_sha256"]) if "samples_sha256" in record else None,
        recipes=_parse_recipes(record, coding.spec.number_of_frames) if coding and form is Form.RECODED else Recipes(),
        made=_parse_made(record["made"], pixel.get("library", "")) if "made" in record else None,
    )


def _parse_recipes(record: dict[str, Any], frames: int) -> Recipes:
    of_frame = tuple(int(index) for index in record.get("recipe_of", [0] * frames))
    recipes = Recipes(tuple(record["recipes"]), of_frame)
    if len(of_frame) != frames or not all(0 <= index < len(recipes.distinct) for index in of_frame):
        raise PackError(f"the recipes are not those of {frames} frames")
    return recipes


def _made_record(manifest: Manifest) -> dict[str, Any] | None:
    """What is not said elsewhere: most frames are decoded by the library that encoded them."""
    if manifest.made is None:
        return None
    made = manifest.made
    record: dict[str, Any] = {"at": made.at, "by": made.by, "seconds": made.seconds}
    if made.preset:
        record["preset"] = made.preset
    if not manifest.pixel or made.decoder != manifest.pixel.library:
        record["decoder"] = made.decoder
    return record


def _parse_made(made: dict[str, Any], library: str) -> Made:
    decoder = made.get("decoder", library)
    return Made(made["at"], made["by"], float(made["seconds"]), made.get("preset", ""), decoder)


def _parse_coding(pixel: dict[str, Any]) -> PixelCoding:
    spec = FrameSpec(
        rows=int(pixel["rows"]),
        columns=int(pixel["columns"]),
        samples_per_pixel=int(pixel["samples"]),
        bits_allocated=int(pixel["allocated"]),
        bits_stored=int(pixel["stored"]),
        high_bit=int(pixel["high"]),
        pixel_representation=int(pixel["signed"]),
        planar_configuration=int(pixel["planar"]),
        photometric_interpretation=pixel["photometric"],
        number_of_frames=int(pixel["frames"]),
        kind=pixel["kind"],
        full_chroma=bool(pixel["full_chroma"]),
    )
    return PixelCoding(
        codec=pixel["codec"],
        effort=int(pixel["effort"]),
        precision=int(pixel["precision"]),
        library=pixel["library"],
        spec=spec,
        big_endian=bool(pixel["big_endian"]),
        trailing=int(pixel["trailing"]),
        levels=tuple(accumulate(int(step) for step in pixel.get("levels", ()))),
    )
