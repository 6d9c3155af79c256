"""Instances whose code streams may go out as they are held, and what it takes where they may not."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from leanpacs.archive.giveback.choosing import Origin, noise_of
from leanpacs.archive.giveback.holding import Holdings
from leanpacs.archive.giveback.opened import SettledInstance
from leanpacs.archive.giveback.passing import CODEC_OF, SYNTAX_OF, syntax_of_held
from leanpacs.archive.giveback.transcoding import Transcoding, target_of
from leanpacs.archive.manifest import Form
from leanpacs.catalog import InstanceRow, Kind
from leanpacs.dicom.uids import transfer_syntax as syntax_of

if TYPE_CHECKING:
    from leanpacs.transcode.envelope import Envelope


class AsHeld:
    """Says of instances what of them need not be made. Thread-safe.

    Parameters
    ----------
    holdings : Holdings
        Opens instances.
    transcoding : Transcoding
        Makes what stands around code streams.
    """

    def __init__(self, holdings: Holdings, transcoding: Transcoding) -> None:
        self._holdings = holdings
        self._transcoding = transcoding

    def has(self, instance: InstanceRow, wanted: str) -> bool:
        """Whether code streams of this transfer syntax only need to be read."""
        if wanted == instance.transfer_syntax:
            return True
        row, _ = self._holdings.best(instance, wanted)
        if row.kind is not Kind.PACK or row.codec != CODEC_OF.get(wanted):
            return False
        known = self._holdings.known(instance, wanted)
        if known is not None and wanted in known.envelopes:
            return known.envelopes[wanted] is not None
        with self._holdings.opened(instance, wanted) as opened:
            return isinstance(opened, SettledInstance) and self.envelope(opened, wanted) is not None

    def envelope(self, opened: SettledInstance, wanted: str) -> Envelope | None:
        """What stands around the code streams of a pack, if they may go out as they are in this transfer syntax."""
        known = opened.known.envelopes
        if wanted not in known:
            # All code streams of a pack were written alike: the first one tells what all declare.
            fits = opened.passes(wanted) and opened.stream_as_demanded(1) is not None
            lengths = opened.stream_lengths() if fits else ()
            transcoder = self._transcoding.transcoder
            known[wanted] = transcoder().envelope(opened, target_of(wanted), lengths) if fits else None
        return known[wanted]

    def syntax(self, instance: InstanceRow, among: Collection[str]) -> str:
        """UID of the one of these transfer syntaxes in which code streams are held as they may go out; '' for none."""
        held = self._holdings.first(instance)
        if held.kind is not Kind.PACK or SYNTAX_OF.get(held.codec) not in among:
            return ""  # the catalog says so: nothing has to be opened
        known = self._holdings.known(instance)
        if known is None:
            with self._holdings.opened(instance) as opened:
                if not isinstance(opened, SettledInstance):
                    return ""
                known = opened.known
                uid = syntax_of_held(known.contents.manifest)
                if uid in among:
                    self.envelope(opened, uid)
        uid = syntax_of_held(known.contents.manifest)
        return uid if uid in among and self.has(instance, uid) else ""

    def origin(self, instance: InstanceRow, wanted: str) -> Origin:
        """What it would be made from in a transfer syntax."""
        row, seconds = self._holdings.best(instance, wanted)
        if wanted == instance.transfer_syntax:
            is_kept = row.kind is not Kind.PACK or row.form in (Form.WHOLE, Form.STREAMS)
            return Origin(instance.raw_bytes, seconds, instance.data_set_length, is_kept)
        if syntax_of(wanted).encapsulated and row.kind is Kind.PACK and self.has(instance, wanted):
            return Origin(instance.raw_bytes, seconds, row.stored_head_bytes + row.stored_frame_bytes, as_held=True)
        known = self._holdings.known(instance, wanted)
        coding = known.contents.manifest.pixel if known is not None else None
        few_values = coding is not None and bool(coding.levels)
        # Indexes say nothing of what the values themselves take.
        noise = 1.0 if few_values else noise_of(row.codec, row.stored_frame_bytes, row.raw_frame_bytes)
        return Origin(instance.raw_bytes, seconds, few_values=few_values, noise=noise)
