"""Write one received instance as a pack, in the smallest exact form that the budget allows.

Nothing here decides what becomes of the received bytes: :mod:`leanpacs.archive.settle.settling` reads the pack
back from the store and compares before it is taken for them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import BinaryIO

from leanpacs.archive.giveback.rebuild import PackedInstance
from leanpacs.archive.manifest import Form, Manifest
from leanpacs.archive.settle.packer import Packed, Packer
from leanpacs.codecs import registry
from leanpacs.codecs.choice import Choice
from leanpacs.codecs.codec import Codec, EncodeOptions
from leanpacs.codecs.legacy import RECODABLE
from leanpacs.codecs.levels import levels_of, precision_of
from leanpacs.codecs.native import unpack
from leanpacs.codecs.presets import HASTY, QUICK, Preset, preset
from leanpacs.dicom.frames import FrameSpec
from leanpacs.errors import CodecError
from leanpacs.storage.dictionary import Compressor
from leanpacs.transcode.content import Content, Native, Streams, Whole, parts

DEFLATED = "it came deflated: other zlib builds would deflate it to other bytes"
WHOLE_IS_SMALLER = "the whole is smaller than frame by frame"
SMALL_FRAME = 16 << 10
"""Below this many bytes a frame, one entry for each costs about as much as it saves: try the whole, too."""


@dataclass(frozen=True, slots=True)
class SeriesChoice:
    """The codec chosen for frames of one kind by one preset under one budget, kept for the rest of the series.

    ``kind`` says for which frames it was measured: samples, bits allocated, sign. ``indexed`` tells that they use few
    of the values in their range (:mod:`leanpacs.codecs.levels`).
    """

    kind: str
    budget_seconds_per_gb: float
    codec: str
    effort: int
    preset: str = QUICK.name
    indexed: bool = False

    def is_for(self, kind: str, preset: str, budget_seconds_per_gb: float) -> bool:
        """Whether it was made under these conditions."""
        return (self.kind, self.preset, self.budget_seconds_per_gb) == (kind, preset, budget_seconds_per_gb)


@dataclass(frozen=True, slots=True)
class SeriesChoices:
    """The choices made for one series so far: one for each kind of frame and budget."""

    choices: tuple[SeriesChoice, ...] = ()

    @classmethod
    def from_json(cls, text: str | None) -> SeriesChoices:
        """Parse what :meth:`to_json` wrote; None is none."""
        return cls(tuple(SeriesChoice(**record) for record in json.loads(text or "[]")))

    def to_json(self) -> str:
        """The choices as JSON text, for the catalog."""
        return json.dumps([asdict(choice) for choice in self.choices])

    def find(self, kind: str, preset: str, budget_seconds_per_gb: float) -> SeriesChoice | None:
        """The choice for a kind of frame by a preset under a budget."""
        return next((one for one in self.choices if one.is_for(kind, preset, budget_seconds_per_gb)), None)

    def having(self, choice: SeriesChoice) -> SeriesChoices:
        """These and one more, in place of one for the same kind, preset and budget."""
        others = [
            one for one in self.choices if not one.is_for(choice.kind, choice.preset, choice.budget_seconds_per_gb)
        ]
        return SeriesChoices((*others, choice))


@dataclass(frozen=True, slots=True)
class Preferences:
    """How to encode: the series' choices, the budget for using or making one, dictionary scopes, the preset's name.

    A budget of 0 is the preset's own. ``in_haste`` takes the preset ``fast`` whatever is named, and compresses heads
    less, and faster. ``recode`` holds received code streams in fewer bytes, if they can be made again from these.
    """

    choices: SeriesChoices
    budget_seconds_per_gb: float
    scopes: tuple[str, ...]
    in_haste: bool = False
    recode: bool = False
    preset: str = QUICK.name


@dataclass(frozen=True, slots=True)
class Encoded:
    """A finished pack, and the choice for the series when codecs were measured on the way."""

    packed: Packed
    choice: SeriesChoice | None = None


def encode(
    content: Content,
    facts: Manifest,
    file: BinaryIO,
    compressor: Compressor,
    preferences: Preferences,
    held: PackedInstance | None = None,
) -> Encoded:
    """Write a pack of ``content`` into ``file``.

    Parameters
    ----------
    content : Content
        The received data set.
    facts : Manifest
        Keys, digests and origin; form and coding are filled in here.
    file : BinaryIO
        Seekable, writable, empty; holds the finished pack on return.
    compressor : Compressor
        For head, tail and everything that is no frame.
    preferences : Preferences
        What the series uses already, and how much CPU time may be spent.
    held : PackedInstance, optional
        A pack of the same data set: its code streams are taken over where the same encoder would make them again.
    """
    form = Whole(DEFLATED) if content.layout.deflated else parts(content)
    wanted = HASTY if preferences.in_haste else preset(preferences.preset)
    packer = Packer(content, facts, file, compressor, preferences.scopes, wanted.name)
    if isinstance(form, Native):
        if form.indivisible:
            return Encoded(packer.whole(form.indivisible))
        return _smallest_native(packer, form, content, preferences, wanted, held)
    if isinstance(form, Streams):
        packed = _smallest_streams(packer, form, content.layout.transfer_syntax, preferences, wanted)
        if packed.pixel_bytes < SMALL_FRAME * len(form.frames) and packer.whole_size() < packed.size_bytes:
            packed = packer.whole(WHOLE_IS_SMALLER)
        return Encoded(packed)
    return Encoded(packer.whole(form.reason))


def encode_whole(content: Content, facts: Manifest, file: BinaryIO, compressor: Compressor, reason: str) -> Encoded:
    """Write a pack that holds the received bytes whole: the form that can hold anything."""
    return Encoded(Packer(content, facts, file, compressor, ()).whole(reason))


def _smallest_streams(
    packer: Packer, form: Streams, transfer_syntax: str, preferences: Preferences, wanted: Preset
) -> Packed:
    """Recode the received code streams, or keep them and say why."""
    if not preferences.recode or transfer_syntax not in RECODABLE:
        return packer.streams(form)
    try:
        return packer.recoded(form, wanted.recode_effort)
    except CodecError as error:
        return packer.streams(form, reason=str(error))


def _smallest_native(
    packer: Packer,
    form: Native,
    content: Content,
    preferences: Preferences,
    wanted: Preset,
    held: PackedInstance | None,
) -> Encoded:
    """Encode by the series' choice, or measure first; whole under Zstandard where that is smaller."""
    measured = best = None
    budget = preferences.budget_seconds_per_gb or wanted.seconds_per_gb
    choice = preferences.choices.find(frame_kind(form.spec), wanted.name, budget)
    if choice is None:
        choice, best = measured_choice(form, content, wanted, budget)
        measured = choice
    known = best.levels if best is not None and form.frames.count == 1 else ()
    for codec, options in attempts(choice, form, content, known):
        try:
            made = _streams_of(held, codec, options) or measured_stream(best, form, codec, options)
            packed = packer.frames(form, codec, options, made)
        except CodecError:
            continue
        if (form.frames.frame_bytes or 0) < SMALL_FRAME and packer.whole_size() < packed.size_bytes:
            return Encoded(packer.whole(WHOLE_IS_SMALLER))
        return Encoded(packed, measured)
    return Encoded(packer.whole("no codec holds the frames exactly"))


def _streams_of(
    held: PackedInstance | None, codec: Codec, options: EncodeOptions
) -> Callable[[int], bytes | None] | None:
    """What gives the code stream of a frame, by its number from 1, as this encoder would make it; None if nothing does.

    A library of another version may make other, smaller ones.
    """
    coding = held.manifest.pixel if held is not None and held.manifest.form is Form.FRAMES else None
    if held is None or coding is None:
        return None
    made = (coding.codec, coding.library, EncodeOptions(coding.effort, coding.precision, coding.levels))
    return held.stream if made == (codec.name, codec.library(), options) else None


def frame_kind(spec: FrameSpec) -> str:
    """What frames have in common that one codec suits: samples, bits allocated, sign, kind of number."""
    sign = "s" if spec.pixel_representation else "u"
    return f"{spec.samples_per_pixel}x{spec.bits_allocated}{sign}-{spec.kind}"


def measured_choice(
    form: Native, content: Content, wanted: Preset, budget_seconds_per_gb: float
) -> tuple[SeriesChoice, Choice]:
    """Measure what the preset offers on one frame: the choice for the series, and what was chosen for that frame."""
    frame = form.frames.read(content.reader, _stands_for_all(form))
    best = wanted.choose(frame, form.spec, budget_seconds_per_gb=budget_seconds_per_gb, big_endian=form.big_endian)
    choice = SeriesChoice(
        frame_kind(form.spec), budget_seconds_per_gb, best.codec, best.effort, wanted.name, bool(best.levels)
    )
    return choice, best


def _stands_for_all(form: Native) -> int:
    """The middle frame: the first and last ones of a volume are often empty."""
    return form.frames.count // 2


def measured_stream(
    best: Choice | None, form: Native, codec: Codec, options: EncodeOptions
) -> Callable[[int], bytes | None] | None:
    """What gives the code stream that measuring made, by the number of its frame; None if a sample was measured."""
    if best is None or best.stream is None or (best.codec, best.options) != (codec.name, options):
        return None
    streams = {_stands_for_all(form) + 1: best.stream}
    return streams.get


def attempts(
    choice: SeriesChoice, form: Native, content: Content, known_levels: tuple[int, ...] = ()
) -> Iterator[tuple[Codec, EncodeOptions]]:
    """The choice, the same with room for bits above Bits Stored, then what holds anything.

    ``known_levels`` are those of all frames, where they have been found already.
    """
    codec, spec = registry.by_name(choice.codec), form.spec
    if choice.indexed and (levels := known_levels or _levels(form, content)):
        yield codec, EncodeOptions(choice.effort, precision_of(levels), levels)
    yield codec, EncodeOptions(choice.effort, spec.bits_stored)
    if spec.bits_stored != spec.bits_allocated:
        yield codec, EncodeOptions(choice.effort, spec.bits_allocated)
    yield registry.by_name("zstd"), EncodeOptions(3, spec.bits_allocated)


def _levels(form: Native, content: Content) -> tuple[int, ...]:
    """The levels of all frames together."""
    frames = (form.frames.read(content.reader, index) for index in range(form.frames.count))
    return levels_of((unpack(frame, form.spec, big_endian=form.big_endian) for frame in frames), form.spec)
