"""One frame as people look at it: 8 bits, grey or RGB, cut, scaled, as an image file. Runs in a worker process.

References
----------
PS3.3 C.7.6.3.1.5 (palettes), C.7.6.16.2 (functional groups); PS3.18 8.3.5 (rendering parameters).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from leanpacs.codecs.codec import Samples
from leanpacs.dicom.frames import FrameSpec
from leanpacs.dicom.tree import Encoding
from leanpacs.dicom.write import read_head
from leanpacs.errors import UnsupportedFrame
from leanpacs.transcode import frames, pictures
from leanpacs.transcode.annotating import annotated
from leanpacs.transcode.colour import coloured, profile_of
from leanpacs.transcode.frames import FrameTask, decoded
from leanpacs.transcode.greyscale import Window, shown, window_of
from leanpacs.transcode.pictures import PROFILED, written

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_SHOWING: Final = frozenset({0x0028, 0x2050, 0x5200})
"""Groups that say how an image is to be shown: the image itself, presentation, functional groups."""


@dataclass(frozen=True, slots=True)
class Viewport:
    """Largest size of the image, and the region of the frame that it shows; width and height 0 are all the rest.

    A negative width or height turns the image over (PS3.18 8.3.5.1.3).
    """

    width: int
    height: int
    left: int = 0
    top: int = 0
    region_width: int = 0
    region_height: int = 0


@dataclass(frozen=True, slots=True)
class View:
    """How a frame is to be shown.

    Parameters
    ----------
    media_type : str
        One of :data:`leanpacs.transcode.pictures.WRITERS`.
    quality : int
        Of those that lose something, 1 to 100.
    window : Window, optional
        In place of what the data set says.
    viewport : Viewport, optional
        The whole frame at its own size by default.
    annotation : tuple of str
        Texts to be drawn in the image: ``patient``, ``technique``.
    profile : str
        Colour space of the image, which an ICC profile names (:func:`leanpacs.transcode.colour.coloured`); '': as it
        is, without a profile.
    """

    media_type: str = "image/jpeg"
    quality: int = 90
    window: Window | None = None
    viewport: Viewport | None = None
    annotation: tuple[str, ...] = ()
    profile: str = ""


def warm_up() -> None:
    """Import what rendering and converting need: half a second, which the first one who asks need not wait."""
    import pydicom.pixels.processing  # noqa: F401

    frames.warm_up()
    pictures.warm_up()


def render(task: FrameTask, head: bytes, encoding: Encoding, view: View) -> bytes:
    """Show one frame.

    Parameters
    ----------
    task : FrameTask
        The frame, to be converted to native.
    head : bytes
        The data set before Pixel Data.
    encoding : Encoding
        Of the head.
    view : View
        How.

    Raises
    ------
    DecodeError, UnsupportedTransferSyntax
        As :func:`leanpacs.transcode.frames.decoded`.
    UnsupportedFrame
        If the data set does not say how to show it.
    """
    frame = decoded(task)
    groups = None if view.annotation or view.profile else _SHOWING
    ds = read_head(head, implicit_vr=encoding.implicit_vr, little_endian=encoding.little_endian, groups=groups)
    try:
        image = np.ascontiguousarray(_seen(frame.samples, frame.spec, ds, task.number, view))
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnsupportedFrame(f"what the data set says of showing it makes no sense: {error}") from error
    if view.annotation:
        image = annotated(image, ds, view.annotation)
    profile = None
    if view.profile:
        image, profile = coloured(image, ds, view.profile)
        if view.media_type not in PROFILED:
            if profile != profile_of("srgb"):  # which is what its files say of themselves
                raise UnsupportedFrame("this media type has no place for the ICC profile of the image")
            profile = None
    return written(np.ascontiguousarray(image), view.media_type, view.quality, profile)


def _seen(samples: Samples, spec: FrameSpec, ds: Dataset, number: int, view: View) -> Samples:
    """Values from 0 to 255 of what the viewport shows.

    Grey images through a window become smaller first, and go through it then: a picture of a mammogram takes half the
    time. Where what is shown hangs on single samples (palettes, tables, no window), they go through first.
    """
    port = view.viewport
    if port is None:
        return displayed(samples, spec, ds, number, view.window)
    if _is_windowed(spec, _of_frame(ds, number), view.window):
        region, rows, columns = _region(samples, port)
        return _scaled(displayed(_in_blocks(region, rows, columns), spec, ds, number, view.window), rows, columns)
    return seen_through(displayed(samples, spec, ds, number, view.window), port)


def _is_windowed(spec: FrameSpec, ds: Dataset, window: Window | None) -> bool:
    """Whether what is shown of grey samples is a smooth function of their values."""
    is_grey = spec.samples_per_pixel == 1 and spec.photometric_interpretation in ("MONOCHROME1", "MONOCHROME2")
    return is_grey and not ds.get("ModalityLUTSequence") and (window or window_of(ds)) is not None


def displayed(samples: Samples, spec: FrameSpec, ds: Dataset, number: int, window: Window | None) -> Samples:
    """Values from 0 (black) to 255 of frame ``number`` (from 1): shape (rows, columns), or with 3 samples."""
    if spec.samples_per_pixel == 3:
        return _rgb(samples, spec)
    if spec.photometric_interpretation == "PALETTE COLOR":
        return _through_palette(samples, ds)
    if spec.samples_per_pixel != 1:
        raise UnsupportedFrame(f"{spec.samples_per_pixel} samples per pixel are not shown")
    is_inverse = (spec.photometric_interpretation == "MONOCHROME1") != (
        ds.get("PresentationLUTShape", "") == "INVERSE" and spec.photometric_interpretation != "MONOCHROME1"
    )
    return shown(samples, spec, _of_frame(ds, number), window, is_inverse=is_inverse)


def seen_through(image: Samples, port: Viewport) -> Samples:
    """The region of an image, scaled to fit width and height with its proportions kept.

    Raises
    ------
    UnsupportedFrame
        If the region is not within the image.
    """
    region, scaled_rows, scaled_columns = _region(image, port)
    return _scaled(region, scaled_rows, scaled_columns)


def _region(image: Samples, port: Viewport) -> tuple[Samples, int, int]:
    """The region that a viewport shows, and the rows and columns to be made of it."""
    rows, columns = image.shape[:2]
    width, height = abs(port.region_width) or columns - port.left, abs(port.region_height) or rows - port.top
    fits = port.left + width <= columns and port.top + height <= rows
    if min(port.left, port.top) < 0 or min(width, height) < 1 or not fits:
        raise UnsupportedFrame(f"the region is not within {columns} columns and {rows} rows")
    region = image[port.top : port.top + height, port.left : port.left + width]
    region = region[:: -1 if port.region_height < 0 else 1, :: -1 if port.region_width < 0 else 1]
    scale = min(port.width / width, port.height / height)
    return region, max(1, round(height * scale)), max(1, round(width * scale))


def _rgb(samples: Samples, spec: FrameSpec) -> Samples:
    from pydicom.pixels.processing import convert_color_space

    eight: Samples = samples if spec.bits_stored <= 8 else samples >> spec.bits_stored - 8
    eight = eight.astype(np.uint8)
    if spec.photometric_interpretation in ("YBR_FULL", "YBR_FULL_422"):
        return convert_color_space(eight, "YBR_FULL", "RGB")
    return eight


def _through_palette(samples: Samples, ds: Dataset) -> Samples:
    from pydicom.pixels.processing import apply_color_lut

    colours = apply_color_lut(samples, ds)
    return (colours >> 8 if colours.dtype.itemsize == 2 else colours).astype(np.uint8)


def _of_frame(ds: Dataset, number: int) -> Dataset:
    """Data set with modality and VOI attributes of a frame in its top level (PS3.3 C.7.6.16.2.9, .10)."""
    from pydicom.dataset import Dataset

    if "SharedFunctionalGroupsSequence" not in ds and "PerFrameFunctionalGroupsSequence" not in ds:
        return ds
    groups = [*ds.get("SharedFunctionalGroupsSequence", [])[:1]]
    groups += ds.get("PerFrameFunctionalGroupsSequence", [])[number - 1 : number]
    made = Dataset()
    for keyword in ("BitsStored", "PixelRepresentation", "PixelPaddingValue", "PixelPaddingRangeLimit"):
        if keyword in ds:
            setattr(made, keyword, ds[keyword].value)
    for group in groups:
        for keyword in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            for item in group.get(keyword, [])[:1]:
                made.update(item)
    return made


def _scaled(image: Samples, rows: int, columns: int) -> Samples:
    """Mean of blocks, so that nothing is left out, then between pixels linearly."""
    blocks = _in_blocks(image, rows, columns)
    scaled: Samples = (_stretched(_stretched(blocks, rows, 0), columns, 1) + 0.5).astype(np.uint8)
    return scaled


def _in_blocks(image: Samples, rows: int, columns: int) -> Samples:
    """Means of blocks of as many whole pixels as leave at least these rows and columns."""
    down, across = max(1, image.shape[0] // rows), max(1, image.shape[1] // columns)
    if down == across == 1:
        return image
    end = image.shape[0] // down * down, image.shape[1] // across * across
    total = np.zeros((end[0] // down, end[1] // across, *image.shape[2:]), np.float32)
    for row in range(down):
        for column in range(across):
            total += image[row : end[0] : down, column : end[1] : across]
    means: Samples = total / np.float32(down * across)
    return means


def _stretched(image: Samples, size: int, axis: int) -> Samples:
    held = image.shape[axis]
    if held == size:
        return image
    places = np.clip((np.arange(size) + 0.5) * held / size - 0.5, 0, held - 1)
    below = places.astype(np.int64)
    weight = (places - below).astype(np.float32).reshape([-1 if i == axis else 1 for i in range(image.ndim)])
    above = np.minimum(below + 1, held - 1)
    mixed: Samples = image.take(below, axis) * (1 - weight) + image.take(above, axis) * weight
    return mixed
