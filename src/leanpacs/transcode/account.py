"""What was done with an instance."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Account:
    """What was done with an instance; complete once all pieces were taken.

    Parameters
    ----------
    transfer_syntax : str
        UID of what comes out: without Pixel Data, Explicit VR Little Endian in place of an encapsulated one.
    sop_class, sop_uid : str
        Of what comes out; a lossy instance has a SOP Instance UID of its own.
    unchanged : bool
        The data set is passed on as it was received.
    lossy : bool
        Samples are not what they were.
    frames : int
        Frames that it has.
    checked_by : tuple of str
        Decoders (library and version) that read every written frame back to the samples it was made of.
    notes : list of str
        What else a user may want to know.
    """

    transfer_syntax: str
    sop_class: str
    sop_uid: str
    unchanged: bool = False
    lossy: bool = False
    frames: int = 0
    checked_by: tuple[str, ...] = ()
    notes: list[str] = field(default_factory=list)
