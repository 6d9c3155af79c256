"""Invent DICOM headers by the recipes in header_recipes.toml; nothing of a patient is in them."""

from __future__ import annotations

import io
import random
import re
import struct
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydicom import Dataset
from pydicom._private_dict import private_dictionaries
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import FileMetaDataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.tag import Tag

RECIPES = Path(__file__).with_name("header_recipes.toml")
IMPLICIT_SHARE = 0.35
PREFACE_SHARE = 0.75

IMPLICIT_LE, EXPLICIT_LE = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
COMPRESSED = ("1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.70", "1.2.840.10008.1.2.4.90", "1.2.840.10008.1.2.5")
NUMBERS = {"US": int, "SS": int, "UL": int, "SL": int, "UV": int, "SV": int, "FL": float, "FD": float}
RAMPS = (
    struct.pack("<256H", *(257 * step for step in range(256))),
    struct.pack("<256H", *(256 * step for step in range(256))),
    struct.pack("<256H", *range(256)),
    bytes(range(256)),
)
UNDOCUMENTED = {"CTP": {f"0013xx{number}": ("LO", "1", "", "") for number in (10, 11, 12, 13)}}
WORDS = ("", "0", "1", "NONE", "N", "NO", "YES", "UNKNOWN", "STANDARD", "-1", "0.000000", "1.000000", "NORMAL")


class Inventor:
    """Invents data sets by recipe, one after the other; equal seeds invent equal ones."""

    def __init__(self, recipes: dict[str, Any], seed: int) -> None:
        self._random = random.Random(seed)
        self._pools = {name: text.split(" | ") for name, text in recipes["pools"].items()}
        self._groups = recipes["groups"]
        self._csa = recipes["csa"]
        self._uids: dict[str, str] = {}

    def data_set(self, recipe: dict[str, Any]) -> Dataset:
        """One instance by ``recipe``."""
        self._uids = {"root": recipe["root"] + self._digits(4, 6)}
        ds = Dataset()
        ds.SOPClassUID = recipe["class"]
        ds.SOPInstanceUID = self._uid("sop")
        self._fill(ds, recipe["text"])
        if self.chance(0.08):
            self._add_group_lengths(ds)
        return ds

    def one_of(self, choices: tuple[str, ...]) -> str:
        """One of several words."""
        return self._random.choice(choices)

    def value(self, text: str) -> str:
        """A value with everything in braces drawn."""
        return re.sub(r"\{([^{}]*)\}", lambda match: self._draw(match[1]), text)

    # ---------------------------------------------------------------------------------------- lines

    def _fill(self, ds: Dataset, text: str) -> None:
        for line in filter(None, map(str.strip, text.splitlines())):
            if line.startswith("+ "):
                self._fill(ds, self._groups[line[2:]])
            elif line.startswith("! "):
                creator, _, percent = line[2:].rpartition(" ?")
                if self.chance(int(percent) / 100):
                    self._add_private(ds, creator)
            else:
                left, _, right = line.partition(" = ")
                keyword, _, percent = left.partition(" ?")
                if self.chance(int(percent or 100) / 100):
                    self._set(ds, keyword, self._random.choice(right.split(" | ")).strip())

    def _set(self, ds: Dataset, keyword: str, text: str) -> None:
        tag = tag_for_keyword(keyword)
        if tag is None:
            raise ValueError(f"there is no attribute {keyword}")
        vr = dictionary_VR(tag)
        if vr == "SQ":
            value: Any = self._items(text)
        else:
            value = self._typed(vr, "" if text == "-" else self.value(text))
        if " or " in vr:
            vr = "US" if "US" in vr and not isinstance(value, bytes) else "OW"
        ds.add_new(tag, vr, value)

    def _items(self, text: str) -> list[Dataset]:
        if text == "-":
            return []
        if text.startswith("("):
            value, scheme, meaning = text[1:-1].split(", ", 2)
            return [self._code(value, scheme, meaning)]
        match = re.fullmatch(r"\[([\w/]+)\](?: x (\d+))?", text)
        assert match, text
        items = []
        for _ in range(self._random.randint(1, int(match[2] or 1))):
            item = Dataset()
            item.is_undefined_length_sequence_item = self._uids["root"][-1] in "0123"
            self._fill(item, self._groups[self._random.choice(match[1].split("/"))])
            items.append(item)
        return items

    def _code(self, value: str, scheme: str, meaning: str) -> Dataset:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
        return item

    # --------------------------------------------------------------------------------------- values

    def _typed(self, vr: str, text: str) -> Any:
        if vr == "AT":
            return [Tag(int(part, 16)) for part in text.split("\\")]
        if text == "ramp":
            return self._random.choice(RAMPS)
        if text == "icc":
            return b"\0\0\2\x30lcms\2\x10\0\0mntrRGB XYZ " + bytes(12) + b"acsp" + bytes(24)
        kind = next((NUMBERS[name] for name in vr.split(" or ") if name in NUMBERS), None)
        if kind is None or not text:
            return b"" if not text and vr in ("OB", "OW", "UN", "OB or OW") else text
        parts = [kind(float(part)) for part in text.split("\\")]
        return parts if len(parts) > 1 else parts[0]

    def _draw(self, what: str) -> str:
        name, *rest = what.split()
        if name in ("i", "f"):
            low, high = float(rest[0]), float(rest[1])
            if name == "i":
                return str(self._random.randint(int(low), int(high)))
            return f"{self._random.uniform(low, high):.{rest[2]}f}"[:16]
        if name in self._pools:
            return self.value(self._random.choice(self._pools[name]).strip().replace("- ", ""))
        if name in ("study", "series", "frame", "uid"):
            return self._uid(name)
        return {"date": self._date, "birth": self._birth, "time": self._time, "dt": self._moment}.get(
            name, lambda: name
        )()

    def _uid(self, name: str) -> str:
        if name == "uid" or name not in self._uids:
            serial = self._date() + self._digits(6, 9)
            parts = [self._uids["root"], self._digits(3, 9), serial, self._digits(1, 6)]
            self._uids[name] = ".".join(parts)[:64].rstrip(".")
        return self._uids[name]

    def _digits(self, low: int, high: int) -> str:
        return str(self._random.randint(10 ** (low - 1), 10**high - 1))

    def _date(self) -> str:
        if "date" not in self._uids or self.chance(0.1):
            year = self._random.choice((1997, 2004, 2008, 2011, 2013, 2015, 2017, 2019, 2020, 2022, 2023, 2024))
            self._uids["date"] = f"{year}{self._random.randint(1, 12):02d}{self._random.randint(1, 28):02d}"
        return self._uids["date"]

    def _birth(self) -> str:
        draw = self._random.randint
        return f"19{draw(30, 99)}{draw(1, 12):02d}{draw(1, 28):02d}"

    def _time(self) -> str:
        if "time" not in self._uids or self.chance(0.5):
            rest = f"{self._random.randint(0, 59):02d}{self._random.randint(0, 59):02d}"
            fraction = self._random.choice(("", "", ".000000", ".000", f".{self._random.randint(0, 999999):06d}"))
            self._uids["time"] = f"{self._random.randint(7, 19):02d}{rest}{fraction}"
        return self._uids["time"]

    def _moment(self) -> str:
        return self._date() + self._time().partition(".")[0] + self._random.choice(("", ".000000", ".0"))

    def chance(self, share: float) -> bool:
        """Whether something happens that does in ``share`` of all cases."""
        return self._random.random() < share

    # ------------------------------------------------------------------------ vendors' and old elements

    def _add_private(self, ds: Dataset, creator: str) -> None:
        """A block of private elements with the VRs that the vendor documents and neutral values."""
        for mask, (vrs, _, name, _) in (UNDOCUMENTED | private_dictionaries)[creator].items():
            vr = vrs.split(" or ")[0]
            if not re.fullmatch(r"[0-9A-F]{4}xx[0-9A-F]{2}", mask) or vr == "SQ" or self.chance(0.15):
                continue
            group = int(mask[:4], 16)
            if group % 2:
                block = ds.private_block(group, creator, create=True)
                block.add_new(int(mask[6:], 16), vr, self._private_value(vr, name))

    def _private_value(self, vr: str, name: str) -> Any:
        if name in ("CSA Image Header Info", "CSA Series Header Info"):
            return self._csa_header("image" if "Image" in name else "series")
        match vr:
            case "DS":
                return self._random.choice(("0", "1", "0.000000", "1.000000", self.value("{f -99 999 6}")))
            case "IS":
                return self._random.choice(("0", "0", "1", "-1", self.value("{i 0 4000}")))
            case "DA":
                return self._date()
            case "TM":
                return self._time()
            case "DT":
                return self._moment()
            case "UI":
                return self._uid("uid")
            case "OB" | "OW" | "UN" | "OF" | "OD":
                return bytes(16)
            case "US" | "UL" | "SS" | "SL" | "FL" | "FD":
                return self._random.choice((0, 0, 0, 1, 1, self._random.randint(2, 999)))
            case "AT":
                return Tag(0x00181063)
        return self._random.choice(WORDS)

    def _csa_header(self, part: str) -> bytes:
        """A header as Siemens MR scanners write: names, VRs and numbers of values, in padded fields."""
        fields = [field.split(":") for field in self._csa[part].split()]
        made = bytearray(b"SV10\4\3\2\1" + struct.pack("<2I", len(fields), 77))
        for name, vr, count in fields:
            values = [self._csa_value(name, vr) for _ in range(int(count))]
            slots = values + [b""] * (max(6, len(values)) - len(values) if values else 0)
            facts = struct.pack("<i4s3i", len(values) or 1, vr.encode(), 0, len(slots), 77)
            made += name.encode().ljust(64, b"\0") + facts
            for slot in slots:
                made += struct.pack("<4i", len(slot), len(slot), 77, len(slot)) + slot + bytes(-len(slot) % 4)
        return bytes(made + bytes(-len(made) % 4))

    def _csa_value(self, name: str, vr: str) -> bytes:
        if name == "MrPhoenixProtocol":
            return self._csa["protocol"].encode() + b"\0"
        if vr in ("DS", "FD", "FL"):
            return self.value("{f -200 200 8}").encode() + b"\0"
        if vr in ("IS", "UL", "US", "SL"):
            return self.value("{i 0 300}").encode() + b"\0"
        words = (b"SYNGO\0", b"Normal\0", b"X_1_1_1_1_1_1_1_1_1_1_1\0", b"256*256\0", b"HEA;HEP\0")
        return self._random.choice(words)

    def _add_group_lengths(self, ds: Dataset) -> None:
        for group in {element.tag.group for element in ds}:
            ds.add_new(Tag(group, 0), "UL", self._random.randint(40, 900))


def synthetic_headers(seed: int, rounds: int) -> Iterator[bytes]:
    """Invented headers as an archive compresses them: preamble and file meta, if any, and the head.

    Parameters
    ----------
    seed : int
        Equal seeds invent equal headers.
    rounds : int
        Number of times that all recipes are gone through, each as often as its weight says.
    """
    recipes = tomllib.loads(RECIPES.read_text(encoding="utf-8"))
    inventor = Inventor(recipes, seed)
    for _ in range(rounds):
        for recipe in recipes["recipe"]:
            for _ in range(recipe["weight"]):
                yield _encoded(inventor.data_set(recipe), recipe, inventor)


def _encoded(ds: Dataset, recipe: dict[str, Any], inventor: Inventor) -> bytes:
    implicit = inventor.chance(IMPLICIT_SHARE)
    compressed = not implicit and inventor.chance(0.9 if recipe.get("encapsulated") else 0.15)
    syntax = IMPLICIT_LE if implicit else inventor.one_of(COMPRESSED) if compressed else EXPLICIT_LE
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = implicit, True
    write_dataset(buffer, ds)
    head = buffer.getvalue() + _pixel_header(ds, recipe.get("pixel", "OW"), implicit, compressed)
    return _preface(ds, syntax, inventor) + head if inventor.chance(PREFACE_SHARE) else head


def _pixel_header(ds: Dataset, vr: str, implicit: bool, compressed: bool) -> bytes:
    """The header of Pixel Data (Float Pixel Data for OF); nothing for recipes without."""
    if not vr:
        return b""
    tag = struct.pack("<2H", 0x7FE0, 0x0008 if vr == "OF" else 0x0010)
    cells = ds.Rows * ds.Columns * ds.SamplesPerPixel * int(ds.get("NumberOfFrames", None) or 1)
    length = 0xFFFFFFFF if compressed else min(cells * ds.BitsAllocated // 8, 0xFFFFFFFE)
    explicit_vr = b"" if implicit else (b"OB" if compressed else vr.encode()) + b"\0\0"
    return tag + explicit_vr + struct.pack("<L", length)


def _preface(ds: Dataset, syntax: str, inventor: Inventor) -> bytes:
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
    meta.TransferSyntaxUID = syntax
    meta.ImplementationClassUID = inventor.value("{toolkit}")
    meta.ImplementationVersionName = inventor.value("{toolkit_name}")
    if inventor.chance(0.4):
        meta.SourceApplicationEntityTitle = inventor.value("{ae}")
    file = io.BytesIO()
    write_file_meta_info(file, meta)
    return bytes(128) + b"DICM" + file.getvalue()
