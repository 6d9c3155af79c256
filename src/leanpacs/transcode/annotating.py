"""Texts in the corners of a rendered image: who it is of, and how it was made.

References
----------
PS3.18 8.3.5.1.1 (annotation parameter).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from leanpacs.codecs.codec import Samples

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

KINDS: Final = ("patient", "technique")
_FIELDS: Final = {
    "patient": ("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    "technique": ("Modality", "StudyDate", "StudyTime", "SeriesDescription", "KVP", "SliceThickness", "EchoTime"),
}
_LEAST_PIXELS, _LINES = 9, 28
"""Height of a line: so many fit in the image, if they are not too small to be read."""


def annotated(image: Samples, ds: Dataset, kinds: Collection[str]) -> Samples:
    """Draw what a data set says of the patient (at the left) and of the technique (at the right)."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.fromarray(np.ascontiguousarray(image))
    height = max(_LEAST_PIXELS, picture.height // _LINES)
    font = ImageFont.load_default(height)
    draw = ImageDraw.Draw(picture)
    white, black = (255, 0) if picture.mode == "L" else ((255, 255, 255), (0, 0, 0))
    for kind in KINDS:
        if kind not in kinds:
            continue
        is_left = kind == "patient"
        draw.multiline_text(
            (height // 2 if is_left else picture.width - height // 2, height // 2),
            "\n".join(_lines(ds, _FIELDS[kind])),
            fill=white,
            font=font,
            anchor="la" if is_left else "ra",
            align="left" if is_left else "right",
            stroke_width=max(1, height // 10),
            stroke_fill=black,
        )
    drawn: Samples = np.asarray(picture)
    return drawn


def _lines(ds: Dataset, keywords: Collection[str]) -> list[str]:
    found = [(keyword, _text(ds.get(keyword))) for keyword in keywords]
    return [text if len(text) > 8 else f"{keyword} {text}" for keyword, text in found if text]


def _text(value: Any) -> str:
    """A value as one line; of names the alphabetic group, with blanks between its components."""
    text = "" if value is None else str(value).split("=")[0].replace("^", " ").strip()
    return " ".join(text.split())[:64]
