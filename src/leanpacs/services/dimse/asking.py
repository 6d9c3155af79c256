"""In which transfer syntaxes, and in which order, instances of another archive are asked for with C-GET.

One presentation context has one transfer syntax in the end, whatever the instances on it are kept in (PS3.8 9.3.3.2).
So each transfer syntax is proposed in a context of its own, and an instance can come as it is kept. Which context it
comes on is the other archive's choice. Some take the first that was accepted, so that the order counts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import chain
from typing import Final

from leanpacs.dicom import uids
from leanpacs.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, TRANSFER_SYNTAXES, transfer_syntax
from leanpacs.errors import UnsupportedTransferSyntax
from leanpacs.services.dimse.negotiation import is_storage, may_have_pixels
from leanpacs.services.dimse.requester import MOST_CONTEXTS, Offer

COMPACT: Final = (
    uids.JPEG_XL_LOSSLESS,
    uids.JPEG_LS_LOSSLESS,
    uids.JPEG_2000_LOSSLESS,
    uids.HTJ2K_LOSSLESS,
    uids.HTJ2K_LOSSLESS_RPCL,
    uids.JPEG_LOSSLESS_SV1,
    uids.JPEG_LOSSLESS,
    uids.RLE,
)
"""What cannot but be lossless and is read here, the most compact first.

None that may be lossy: who holds an image without loss is never invited to send it with one.
"""
STORAGE_CONTEXTS: Final = MOST_CONTEXTS - 2
"""What is left beside the two of the service itself."""
_AS_KEPT: Final = (
    EXPLICIT_LE,
    IMPLICIT_LE,
    *COMPACT,
    uids.JPEG_BASELINE,
    uids.JPEG_EXTENDED,
    uids.JPEG_LS_NEAR_LOSSLESS,
    uids.JPEG_2000,
)
"""What most images are kept in, where there is not room for all."""
_OF_MODALITY: Final = {
    "CT": "2",
    "MR": "4",
    "CR": "1",
    "DX": "1.1",
    "MG": "1.2",
    "IO": "1.3",
    "PX": "1.1",
    "US": "6.1",
    "NM": "20",
    "PT": "128",
    "XA": "12.1",
    "RF": "12.2",
    "ES": "77.1.1",
    "XC": "77.1.4",
    "SM": "77.1.6",
    "OP": "77.1.5.1",
}
"""How the UID of the storage SOP class goes on that most images of a modality have."""
_GUESSED: Final = 4
_ROOT: Final = "1.2.840.10008.5.1.4.1.1."
_LAST: Final = (IMPLICIT_LE, EXPLICIT_BE)
_COMMON: Final = ("88.", "11.", "104.", "481.", "66", "9.", "4.2", "6.2", "30", "67")
"""How UIDs of storage SOP classes go on that are common and not of images, the most common first."""


def preferred_syntax(name: str) -> str:
    """UID of a transfer syntax that may be preferred, by its keyword (PS3.6, any case) or by itself.

    Raises
    ------
    UnsupportedTransferSyntax
        There is none of this name, or images may lose something in it.
    """
    for uid, syntax in TRANSFER_SYNTAXES.items():
        if name.strip().lower() in (uid, syntax.keyword.lower()):
            if syntax.lossless is not True:
                raise UnsupportedTransferSyntax(
                    uid, f"{syntax.keyword} may lose something of an image: it only comes where it is kept so"
                )
            return uid
    known = ", ".join(syntax.keyword for syntax in TRANSFER_SYNTAXES.values() if syntax.lossless is True)
    raise UnsupportedTransferSyntax(name, f"{name} is no lossless transfer syntax; these are: {known}")


def have_room(classes: Collection[str]) -> bool:
    """Whether one association can offer every transfer syntax for these SOP classes."""
    return len(classes) * len(TRANSFER_SYNTAXES) <= STORAGE_CONTEXTS


def offers(classes: Collection[str], prefer: Sequence[str], modalities: Collection[str] = ()) -> Sequence[Offer]:
    """Contexts for instances of these SOP classes: what is preferred, then native, then all else as it may be kept.

    Where the classes are not known ('') there is no room for that: then those are offered so which the modalities
    suggest, and the other common ones uncompressed.
    """
    if "" not in classes:
        return _in_turn(sorted(classes), prefer, list(TRANSFER_SYNTAXES))[:STORAGE_CONTEXTS]
    likely = [_ROOT + _OF_MODALITY[one] for one in sorted(modalities) if one in _OF_MODALITY]
    likely = list(dict.fromkeys(likely))[:_GUESSED]
    others = [(sop_class, (EXPLICIT_LE, IMPLICIT_LE)) for sop_class in common_classes() if sop_class not in likely]
    return [*_in_turn(likely, prefer, _AS_KEPT), *others][:STORAGE_CONTEXTS]


def _in_turn(classes: Sequence[str], prefer: Sequence[str], syntaxes: Sequence[str]) -> list[Offer]:
    """The first transfer syntax of each class, then the second, and so on: where room ends, it ends for all alike."""
    of_each = [[(sop_class, uid) for uid in _order(sop_class, prefer, syntaxes)] for sop_class in classes]
    return list(chain.from_iterable(zip(*of_each, strict=True)))


def _order(sop_class: str, prefer: Sequence[str], syntaxes: Sequence[str]) -> list[str]:
    """Transfer syntaxes; what has no pixels is not asked for as if it were compressed."""
    first = [uid for uid in prefer if may_have_pixels(sop_class) or not transfer_syntax(uid).encapsulated]
    rest = sorted(map(transfer_syntax, syntaxes), key=lambda one: (one.uid in _LAST, one.retired, one.encapsulated))
    return list(dict.fromkeys((*first, *(syntax.uid for syntax in rest))))


def common_classes() -> list[str]:
    """As many storage SOP classes as one association has contexts for: those of images, then others."""
    from pydicom._uid_dict import UID_dictionary

    names = {
        uid: name for uid, (name, _, _, retired, _) in UID_dictionary.items() if uid.startswith(_ROOT) and not retired
    }
    images = [uid for uid, name in names.items() if "Image Storage" in name]
    others = [uid for start in _COMMON for uid in names if uid.startswith(_ROOT + start) and is_storage(uid)]
    return list(dict.fromkeys((*images, *others)))[:STORAGE_CONTEXTS]
