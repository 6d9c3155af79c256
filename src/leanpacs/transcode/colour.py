"""What the numbers of a rendered image mean: ICC profiles, and from one colour space to another.

References
----------
PS3.18 8.3.5.1.5 (iccprofile), PS3.3 C.11.15 (ICC Profile Module), IEC 61966-2-1 (sRGB), ISO 22028-2 (ROMM RGB),
SMPTE EG 432-1 (Display P3 has its primaries, with the curve of sRGB).
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from leanpacs.codecs.codec import Samples
from leanpacs.errors import UnsupportedFrame

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SPACES: Final = ("srgb", "adobergb", "rommrgb", "displayp3")
"""Colour spaces to which images are converted."""
OWN: Final = "yes"
"""The image stays as it is, and says what that is."""

_P3: Final = (0.680, 0.320, 1.0, 0.265, 0.690, 1.0, 0.150, 0.060, 1.0)
_ROMM: Final = (0.7347, 0.2653, 1.0, 0.1596, 0.8404, 1.0, 0.0366, 0.0001, 1.0)
_D65: Final = (0.3127, 0.3290, 1.0)
_D50: Final = (0.3457, 0.3585, 1.0)
_CURVE_ENTRIES: Final = 1024


@cache
def profile_of(space: str) -> bytes:
    """ICC profile of one of `SPACES`."""
    import imagecodecs

    if space == "displayp3":
        return bytes(imagecodecs.cms_profile("rgb", whitepoint=_D65, primaries=_P3, transferfunction=_srgb_curve()))
    if space == "rommrgb":
        return bytes(imagecodecs.cms_profile("rgb", whitepoint=_D50, primaries=_ROMM, gamma=1.8))
    return bytes(imagecodecs.cms_profile(space))


def profile_in(ds: Dataset) -> bytes | None:
    """ICC profile of a data set, or of its first optical path (PS3.3 C.8.12.5); None when it has none."""
    for place in (ds, *ds.get("OpticalPathSequence", [])[:1]):
        if profile := place.get("ICCProfile"):
            return bytes(profile)
    return None


def coloured(image: Samples, ds: Dataset, space: str) -> tuple[Samples, bytes]:
    """An image in a colour space, and the profile that says so.

    Numbers of data sets without a profile are taken for sRGB, as every program does that shows them. Grey becomes
    RGB, for the profiles are of RGB.

    Parameters
    ----------
    image : ndarray of uint8
        Shape (rows, columns), or with 3 samples.
    ds : Dataset
        May hold a profile.
    space : str
        One of `SPACES`, or `OWN`.

    Raises
    ------
    UnsupportedFrame
        If the profile in the data set is none.
    """
    import imagecodecs

    is_grey = image.ndim == 2
    rgb = np.ascontiguousarray(np.repeat(image[..., None], 3, axis=2) if is_grey else image)
    source = None if is_grey else profile_in(ds)
    if space == OWN or (space == "srgb" and source is None):
        return rgb, source or profile_of("srgb")
    target = profile_of(space)
    try:
        converted: Samples = imagecodecs.cms_transform(
            rgb, source or profile_of("srgb"), target, colorspace="rgb", outcolorspace="rgb"
        )
    except (RuntimeError, ValueError, TypeError) as error:
        raise UnsupportedFrame(f"the ICC profile of the data set cannot be used: {error}") from error
    return converted, target


def _srgb_curve() -> Samples:
    value = np.linspace(0.0, 1.0, _CURVE_ENTRIES)
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    curve: Samples = (linear * 65535 + 0.5).astype(np.uint16)
    return curve
