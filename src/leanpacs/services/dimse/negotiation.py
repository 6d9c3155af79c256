"""Association requests: which are taken, and on which terms (PS3.8 sections 7.1 and 9.3, PS3.7 annex D)."""

from __future__ import annotations

import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, IntEnum
from functools import lru_cache

from pydicom.uid import UID

from leanpacs.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE, transfer_syntax
from leanpacs.services.dimse.identifiers import SYNTAXES
from leanpacs.services.dimse.models import MODELS, NOTHING_EXTENDED, Extended
from leanpacs.services.dimse.proposal import APPLICATION_CONTEXT, Acceptance, Request
from leanpacs.services.dimse.transport import PduType

VERIFICATION = "1.2.840.10008.1.1"
_NOT_INSTANCES = (  # "Storage" in name, but not services that C-STORE instances (PS3.6 table A-1)
    "1.2.840.10008.1.3.10",
    "1.2.840.10008.1.20.1",
    "1.2.840.10008.1.20.2",
)
_OTHERS_WITH_PIXELS = (
    "Corneal Topography Map Storage",
    "Enhanced US Volume Storage",
    "Height Map Segmentation Storage",
    "Label Map Segmentation Storage",
    "Ophthalmic Optical Coherence Tomography B-scan Volume Analysis Storage",
    "Ophthalmic Thickness Map Storage",
    "Parametric Map Storage",
    "RT Dose Storage",
    "Segmentation Storage",
)
_PDU_HEADER = struct.Struct(">BxL")


class ContextResult(IntEnum):
    """Result of a presentation context (PS3.8 table 9-18)."""

    ACCEPTED = 0
    ABSTRACT_SYNTAX_NOT_SUPPORTED = 3
    TRANSFER_SYNTAXES_NOT_SUPPORTED = 4


class Refusal(Enum):
    """Result, source and reason of a rejected association (PS3.8 table 9-21)."""

    APPLICATION_CONTEXT_NOT_SUPPORTED = (1, 1, 2)
    CALLING_AE_TITLE_NOT_RECOGNIZED = (1, 1, 3)
    CALLED_AE_TITLE_NOT_RECOGNIZED = (1, 1, 7)
    PROTOCOL_VERSION_NOT_SUPPORTED = (1, 2, 2)
    LOCAL_LIMIT_EXCEEDED = (2, 3, 2)

    def pdu(self) -> bytes:
        """The A-ASSOCIATE-RJ PDU."""
        return _PDU_HEADER.pack(PduType.ASSOCIATE_RJ, 4) + bytes((0, *self.value))


@dataclass(frozen=True, slots=True)
class Terms:
    """What this archive agrees to.

    Parameters
    ----------
    ae_title : str
        Its own AE title.
    max_pdu_bytes : int
        Largest PDU it asks peers to send.
    check_called : bool
        Whether peers must call it by ``ae_title``.
    allowed_calling : collection of str
        AE titles that may connect; empty lets any.
    served : collection of str
        SOP classes that are served beside verification and storage.
    relational : bool
        Whether peers may query and retrieve without the unique keys of higher levels.
    gives : bool
        Whether peers may take the SCP role of storage, to be given instances.
    """

    ae_title: str
    max_pdu_bytes: int
    check_called: bool = False
    allowed_calling: Collection[str] = ()
    served: Collection[str] = ()
    relational: bool = True
    gives: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """An accepted presentation context: what instances on it are, and how they are encoded.

    Parameters
    ----------
    extended : Extended
        What extended negotiation agreed on for its SOP class.
    peer_stores : bool
        Whether the requestor takes instances on it, too (the SCP role).
    """

    context_id: int
    abstract_syntax: str
    transfer_syntax: str
    extended: Extended = NOTHING_EXTENDED
    peer_stores: bool = False


def refusal(request: Request, terms: Terms) -> Refusal | None:
    """Why the association is not accepted, if what is asked for is the reason."""
    if not request.protocol_version & 1:
        return Refusal.PROTOCOL_VERSION_NOT_SUPPORTED
    if request.application_context != APPLICATION_CONTEXT:
        return Refusal.APPLICATION_CONTEXT_NOT_SUPPORTED
    if terms.check_called and request.called != terms.ae_title:
        return Refusal.CALLED_AE_TITLE_NOT_RECOGNIZED
    if terms.allowed_calling and request.calling not in terms.allowed_calling:
        return Refusal.CALLING_AE_TITLE_NOT_RECOGNIZED
    return None


def accept(request: Request, terms: Terms) -> tuple[bytes, Mapping[int, Context]]:
    """Encode the A-ASSOCIATE-AC PDU, with the presentation contexts that were accepted, by ID."""
    accepted: dict[int, Context] = {}
    answers: list[tuple[int, int, str]] = []
    extended = {
        uid: Extended.agreed(asked, relational=terms.relational)
        for uid, asked in request.extended.items()
        if uid in MODELS and uid in terms.served
    }
    roles = {uid: both for uid, both in request.roles.items() if terms.gives and is_storage(uid)}
    for context_id, abstract_syntax, offered in request.offers:
        takes = roles.get(abstract_syntax, (True, False))[1]
        result, chosen = choose(abstract_syntax, offered, terms.served, gives=takes)
        if result is ContextResult.ACCEPTED:
            agreed = extended.get(abstract_syntax, NOTHING_EXTENDED)
            accepted[context_id] = Context(context_id, abstract_syntax, chosen, agreed, takes)
        answers.append((context_id, result, chosen))
    flags = {uid: agreed.encoded(len(request.extended[uid])) for uid, agreed in extended.items()}
    acceptance = Acceptance(terms.max_pdu_bytes, answers, flags, roles)
    return acceptance.pdu(request.called, request.calling), accepted


def choose(
    abstract_syntax: str, offered: Sequence[str], served: Collection[str] = (), *, gives: bool = False
) -> tuple[ContextResult, str]:
    """Pick the one transfer syntax that will be used on a presentation context.

    Instances are taken in whatever encoding they are sent. Where a peer leaves the choice, none is picked
    that could make it compress with loss if there is another, and big endian and Implicit VR (which does not
    tell the VRs of private attributes) come last; otherwise the peer's order holds. Where instances are to be given
    to the peer (``gives``), those go first that this archive can write without loss, whatever an instance came in;
    native ones where it has no pixels.
    """
    if not offered:
        return ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, IMPLICIT_LE
    if abstract_syntax == VERIFICATION:
        return ContextResult.ACCEPTED, offered[0]
    if abstract_syntax in served:
        chosen = next((uid for uid in SYNTAXES if uid in offered), None)
        if chosen is None:
            return ContextResult.TRANSFER_SYNTAXES_NOT_SUPPORTED, offered[0]
        return ContextResult.ACCEPTED, chosen
    if not is_storage(abstract_syntax):
        return ContextResult.ABSTRACT_SYNTAX_NOT_SUPPORTED, offered[0]
    if gives and not may_have_pixels(abstract_syntax):
        return ContextResult.ACCEPTED, min(offered, key=_rank_without_pixels)
    return ContextResult.ACCEPTED, min(offered, key=_rank_to_give if gives else _rank)


@lru_cache(maxsize=1024)
def is_storage(abstract_syntax: str) -> bool:
    """Whether instances of this abstract syntax can be stored.

    True for all storage SOP classes of PS3.6, retired ones included, and for any UID that PS3.6 does not
    know: private classes and those of later editions.
    """
    uid = UID(abstract_syntax, validation_mode=0)
    if not uid.type:
        return bool(uid)
    return uid.type == "SOP Class" and "Storage" in uid.name and uid not in _NOT_INSTANCES


@lru_cache(maxsize=1024)
def may_have_pixels(abstract_syntax: str) -> bool:
    """Whether instances of a storage SOP class may have Pixel Data; so for those that PS3.6 does not know."""
    uid = UID(abstract_syntax, validation_mode=0)
    return not uid.type or "Image Storage" in uid.name or uid.name in _OTHERS_WITH_PIXELS


def _rank_without_pixels(uid: str) -> tuple[bool, bool]:
    """Native ones first, that of Explicit VR before the others: encapsulation says nothing where there is no image."""
    return transfer_syntax(uid).encapsulated, uid != EXPLICIT_LE


def _rank(uid: str) -> tuple[bool, bool]:
    return transfer_syntax(uid).lossless is not True, uid in (IMPLICIT_LE, EXPLICIT_BE)


def prepare() -> None:
    """Load what is needed to answer requests of those who retrieve, so that the first one need not wait for it."""
    _rank_to_give(EXPLICIT_LE)


def _rank_to_give(uid: str) -> tuple[bool, bool]:
    from leanpacs.transcode.target import targets

    return uid not in targets() or transfer_syntax(uid).lossless is False, uid in (IMPLICIT_LE, EXPLICIT_BE)
