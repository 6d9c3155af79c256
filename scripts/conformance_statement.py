"""The DICOM conformance statement (PS3.2), written from the tables that the code uses."""

# ruff: noqa: E501 - paragraphs of the page, with values of any length in them

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from pydicom._uid_dict import UID_dictionary
from pydicom.charset import python_encoding
from pydicom.datadict import dictionary_VR, keyword_for_tag

from leanpacs import __version__
from leanpacs.catalog import matchable
from leanpacs.catalog.matching import WILDCARD_VRS
from leanpacs.config import DimseSettings, OutboxSettings
from leanpacs.dicom.uids import TRANSFER_SYNTAXES
from leanpacs.dicom.write import IMPLEMENTATION_CLASS_UID
from leanpacs.services.dicomweb import rendered, resources
from leanpacs.services.dicomweb.app import DicomWeb
from leanpacs.services.dimse import status
from leanpacs.services.dimse.association import Timeouts
from leanpacs.services.dimse.commitment import STORAGE_COMMITMENT
from leanpacs.services.dimse.fetching import FIND, GET, MOVE
from leanpacs.services.dimse.find import CATALOG_LEVELS, returned
from leanpacs.services.dimse.identifiers import SYNTAXES
from leanpacs.services.dimse.models import LEVELS, MODELS, UNIQUE_KEYS
from leanpacs.services.dimse.negotiation import VERIFICATION, Refusal, is_storage
from leanpacs.services.dimse.scp import SERVED
from leanpacs.services.dimse.security import CIPHERS
from leanpacs.services.dimse.worklist import MODALITY_WORKLIST
from leanpacs.transcode import colour
from leanpacs.transcode.pictures import PROFILED
from leanpacs.transcode.target import targets

Row = Sequence[object]

_QUERY: Final = "Query/Retrieve"
_SERVICES: Final[dict[str, str]] = {
    VERIFICATION: "Verification",
    MODALITY_WORKLIST: "Workflow Management",
    STORAGE_COMMITMENT: "Workflow Management",
    **dict.fromkeys(MODELS, _QUERY),
}
"""Category of PS3.2 table A.1-2, by SOP class."""


def conformance_page(note: str) -> str:
    """The statement as Markdown."""
    parts = (
        _overview,
        _introduction,
        _networking,
        _acceptance,
        _initiation,
        _interfaces,
        _web,
        _media_and_text,
        _annexes,
    )
    lines = ["# DICOM conformance statement", "", note, ""]
    for part in parts:
        lines += [*part(), ""]
    return "\n".join(lines).rstrip() + "\n"


def _overview() -> Iterator[str]:
    yield f"""LeanPACS {__version__}, in the form of PS3.2. What is said here is read from the tables that the program itself
uses; [DIMSE](dimse.md) and [DICOMweb](dicomweb.md) tell more of how it behaves.

## 1 Overview

LeanPACS is an image archive. It takes in composite instances, keeps them in a smaller form from which each data set is
rebuilt byte for byte, is queried for them, and gives them to each receiver in a transfer syntax that the receiver takes.

Network services:
"""
    yield from _table(("SOP class", "UID", "category", "SCU", "SCP"), _services())
    yield f"""
Storage SOP classes (SCU and SCP): the {len(_storage_classes())} of [annex A](#annex-a-storage-sop-classes), and any that PS3.6 does not
know, such as private ones.

Web services (PS3.18): see [section 5](#5-dicom-web-services). Media services: none."""


def _services() -> Iterator[Row]:
    for uid in (VERIFICATION, *SERVED):
        yield UID_dictionary[uid][0], f"`{uid}`", _SERVICES[uid], _yes(uid in (FIND, MOVE, GET)), "yes"
    yield "Storage SOP classes", "annex A", "Transfer", "yes", "yes"


def _introduction() -> Iterator[str]:
    yield """## 2 Introduction

For administrators and engineers who connect other systems. That two statements fit does not prove that two systems
work together; that has to be tried with both. Terms and abbreviations are those of the DICOM standard."""


def _networking() -> Iterator[str]:
    yield """## 3 Networking

### 3.1 Implementation model

One application entity, the archive, is served by any number of processes. It

- accepts associations to verify (C-ECHO), store (C-STORE), query (C-FIND), retrieve (C-GET, C-MOVE), ask for scheduled
  procedure steps (C-FIND) and for storage commitment (N-ACTION);
- initiates associations to send instances (C-STORE): for a C-MOVE, a rule on what arrives, or a command; to ask another archive for
  what it has (C-FIND, C-GET, C-MOVE); and to report on
  storage commitment (N-EVENT-REPORT).

An instance that was stored with status Success is durable, and can be queried and retrieved at once.

### 3.2 AE specification: the archive

Conformance to the SOP classes of section 1. Level of storage conformance: 2 (full). Elements are neither coerced nor
discarded; private ones are kept. Digital signatures stay valid: the data set as received is given back byte for byte, as
long as it is given in the transfer syntax that it came in.

#### 3.2.1 Association policies
"""
    yield from _table(
        ("what", "value"),
        (
            ("Application context", "1.2.840.10008.3.1.1.1"),
            ("AE title", f"`{DimseSettings().ae_title}` (setting)"),
            ("Associations accepted at a time", f"{DimseSettings().max_associations} for each process (setting)"),
            (
                "Associations initiated at a time",
                f"one for each C-MOVE; {OutboxSettings().senders} for the outbox (setting)",
            ),
            ("Maximum PDU length", f"{DimseSettings().max_pdu_bytes} bytes (setting); longer ones are read, too"),
            ("Asynchronous operations", "not negotiated: one operation at a time"),
            ("Implementation Class UID", f"`{IMPLEMENTATION_CLASS_UID}`"),
            ("Implementation Version Name", f"`{f'LEANPACS_{__version__}'[:16]}`"),
            ("SCP/SCU role selection", "storage SOP classes, as proposed"),
            (
                "SOP class extended negotiation",
                "C-FIND, C-MOVE, C-GET: relational (setting), combined date and time, fuzzy names",
            ),
            ("User identity", "read and not answered"),
        ),
    )


def _acceptance() -> Iterator[str]:
    timeouts = Timeouts(network=DimseSettings().network_timeout_seconds, idle=DimseSettings().idle_timeout_seconds)
    yield """#### 3.2.2 Association acceptance policy

An association is rejected for these reasons (PS3.8 table 9-21), and aborted when a time limit passes.
"""
    rows = ((one.name.capitalize().replace("_", " ").replace(" ae ", " AE "), *one.value) for one in Refusal)
    yield from _table(("reason", "result", "source", "reason code"), rows)
    yield ""
    yield from _table(
        ("time limit", "seconds"),
        (
            ("complete association request", f"{timeouts.request:g}"),
            ("between two messages", f"{timeouts.idle:g} (setting)"),
            ("between two parts of a message", f"{timeouts.network:g} (setting)"),
        ),
    )
    yield """
Presentation contexts:
"""
    yield from _table(
        ("abstract syntax", "transfer syntaxes", "role"),
        (
            ("Verification", "any", "SCP"),
            ("Storage SOP classes", "any", "SCP; SCU where the requestor takes the SCP role (C-GET)"),
            ("the others of section 1", ", ".join(f"{TRANSFER_SYNTAXES[uid].name}" for uid in SYNTAXES), "SCP"),
        ),
    )
    yield """
Where one context offers several, a lossless one goes before lossy ones, Implicit VR and big endian come last, else the
order of the requestor holds.

##### C-STORE

Equal data sets under a SOP Instance UID are stored once. Other bytes under one that is held are refused (0111), kept apart
or take its place, by setting.

##### C-FIND: Patient Root, Study Root

Attributes by level: *match* tells how a key is matched, *return* whether answers have it. Keys of higher levels can be
used at lower ones. Hierarchical and (by setting, the default) relational queries.
"""
    yield from _table(("level", "attribute", "tag", "VR", "match", "return"), _find_keys())
    yield """
Matching: single value, list of UIDs, wildcard, range of dates and times, universal, empty value (`""`), multiple values.
Person names match whatever the case, in each component group. Answers stop when the query is cancelled. Other keys,
sequences and private elements among them, are matched and returned from headers at the levels STUDY, SERIES and IMAGE (setting).

##### C-FIND: Modality Worklist

All attributes that an order holds can be matched and returned, also within sequences, by the same kinds of matching; see
[the reference](dimse.md#modality-worklist).

##### C-GET, C-MOVE

Unique keys, one value or a list of UIDs, at the levels of the model:
"""
    yield from _table(("level", "unique key"), ((level, UNIQUE_KEYS[level]) for level in LEVELS))
    yield """
Pending responses follow each instance. C-CANCEL ends the retrieval after the instance that is under way. Instances that
failed are named in Failed SOP Instance UID List (0008,0058).

##### N-ACTION: Storage Commitment Push Model

Action type 1. Committed is what the catalog has, durable and under the SOP class named. The report (N-EVENT-REPORT, event
types 1 and 2) comes on the same association, or on a new one; reports to known destinations outlive a restart. Failure
reasons: 0112 (no such object instance), 0119 (class-instance conflict).

##### Statuses
"""
    yield from _table(("status", "meaning", "reference"), _statuses())


def _find_keys() -> Iterator[Row]:
    for level in LEVELS:
        can_match = {attribute.tag: attribute for attribute in matchable(CATALOG_LEVELS[level]).values()}
        own = {attribute.tag for attribute in can_match.values() if attribute.level == CATALOG_LEVELS[level]}
        shown = (own | returned(level)) - _shown_above(level)
        for tag in sorted(shown):
            vr = can_match[tag].vr if tag in can_match else dictionary_VR(tag)
            match = _kind(keyword_for_tag(tag), vr) if tag in can_match else "no"
            yield (
                level,
                keyword_for_tag(tag),
                f"({tag >> 16:04X},{tag & 0xFFFF:04X})",
                vr,
                match,
                _yes(tag in returned(level)),
            )


def _shown_above(level: str) -> set[int]:
    above = LEVELS[: LEVELS.index(level)]  # type: ignore[arg-type]
    return {tag for one in above for tag in returned(one)}


def _kind(keyword: str, vr: str) -> str:
    if keyword in UNIQUE_KEYS.values():
        return "unique key" + (", list" if vr == "UI" else ", wildcard")
    if vr in ("DA", "TM", "DT"):
        return "range"
    if vr == "UI":
        return "list"
    return "wildcard" if vr in WILDCARD_VRS else "value"


def _statuses() -> Iterator[Row]:
    """What the table in the documentation of the code says."""
    for line in (status.__doc__ or "").splitlines():
        if line.startswith("0x"):
            code, meaning, reference = (cell.strip() for cell in line.split("  ") if cell.strip())
            yield f"{status.Status(int(code, 16)):04X}", meaning, reference


def _initiation() -> Iterator[str]:
    outbox = OutboxSettings()
    yield f"""#### 3.2.3 Association initiation policy

Instances are sent to known destinations: settings, or `leanpacs destination`. One presentation context is proposed for each
SOP class and each of the transfer syntaxes in which its instances came, which the destination prefers (setting), Explicit
VR Little Endian and Implicit VR Little Endian. The role is SCU. When an association breaks, the instance that was
under way has failed, and the others go on a new one.

An instance goes as it was received where that is accepted, else it is transcoded without loss and checked; nothing is sent
with a loss that it did not come with. Transfer syntaxes that can be made are those of [annex B](#annex-b-transfer-syntaxes).

Instances that a rule or `leanpacs send --queue` left in the outbox are tried again after statuses A7xx and 0110 and when the
association fails, {outbox.first_retry_seconds:g} s later, then twice as long each time, {outbox.longest_retry_seconds:g} s at most, for {outbox.give_up_seconds:g} s
(settings). Other failures wait for a decision.

`leanpacs fetch` queries and retrieves as an SCU of Study Root, FIND with GET or MOVE. For C-GET the SCP role is proposed for the
storage SOP classes of what is asked for, in one presentation context for each transfer syntax, compressed ones that cannot but be
lossless first (or what `--prefer` says); where the other archive does not tell the classes, for those that modalities suggest, and for other
common ones in Explicit and in Implicit VR Little Endian. What is here already is not asked for.

For reports of storage commitment, Storage Commitment Push Model is proposed with the SCP role, in Explicit and in Implicit
VR Little Endian."""


def _interfaces() -> Iterator[str]:
    dimse = DimseSettings()
    yield f"""### 3.3 Network interfaces

TCP/IP, version 4 or 6. TCP_NODELAY is set on every connection.

### 3.4 Configuration

Port {dimse.port}, AE title `{dimse.ae_title}`, address {dimse.host} unless told otherwise; all [settings](settings.md)."""


def _web() -> Iterator[str]:
    service = DicomWeb.__new__(DicomWeb)  # its methods are only named here, never called
    yield """## 5 DICOM web services

| method | resource | what | reference |
| --- | --- | --- | --- |"""
    seen = {
        (one.method, one.path or "/"): one for one in (*resources.operations(service), resources.uri_service(service))
    }
    for operation in seen.values():
        yield f"| {operation.method} | `{operation.path or '/'}` | {operation.summary} | {operation.reference or 'none'} |"
    yield """
Rendered media types (PS3.18 8.7.4): images of frames, 8 bits for each sample. Videos are given as they were received, structured
reports as text (`text/html`, `text/plain`, `text/xml`), encapsulated documents as they were put in. Other instances are not rendered (406).

| media type | ICC profiles (`iccprofile`, PS3.18 8.3.5.1.5) |
| --- | --- |"""
    every = ", ".join(("no", colour.OWN, *colour.SPACES))
    for form in rendered.IMAGES:
        yield f"| `{form}` | {every if form in PROFILED else ', '.join(('no', *rendered.WITHOUT_PLACE.get(form, ())))} |"
    yield """
Media types, parameters and statuses are in the [reference](dicomweb.md), and in the OpenAPI description that a server
gives at `/openapi.json`."""


def _media_and_text() -> Iterator[str]:
    terms = ", ".join(f"`{term}`" for term in python_encoding if term)
    yield f"""## 6 Media interchange

None.

## 7 Support of character sets

Understood in instances, queries and worklist files: {terms}, with code extensions. Instances are given back as they
came. Answers are in the character sets of the query where those have the characters, with code extensions, else in
`ISO_IR 192` (UTF-8).

## 8 Security

- TLS 1.2 and 1.3 at the DIMSE and the HTTP door, and towards destinations, by setting: the BCP 195 profile (PS3.15 B.9, B.12).
  Cipher suites of TLS 1.2: `{CIPHERS}`. Certificates of clients by setting.
- Calling AE titles and addresses that may connect, and addresses that may come in at the HTTP door, by setting.
- Audit messages in the form of PS3.15 A.5."""


def _annexes() -> Iterator[str]:
    yield """## Annex A: storage SOP classes

Taken in any transfer syntax, given in those of annex B.
"""
    yield from _table(("SOP class", "UID"), ((name, f"`{uid}`") for uid, name in _storage_classes()))
    yield """
## Annex B: transfer syntaxes

All are taken in C-STORE, private and later ones included. *Made*: instances that came in another one can be given in it,
without loss; [codecs](codecs.md) tells the limits of each.
"""
    made = targets()
    rows = (
        (one.name, f"`{uid}`", _yes(uid in made and one.lossless is not False))
        for uid, one in TRANSFER_SYNTAXES.items()
    )
    yield from _table(("transfer syntax", "UID", "made"), rows)


def _storage_classes() -> list[tuple[str, str]]:
    return [(uid, names[0]) for uid, names in UID_dictionary.items() if is_storage(uid)]


def _table(heading: Sequence[str], rows: Iterable[Row]) -> Iterator[str]:
    yield f"| {' | '.join(heading)} |"
    yield f"| {' | '.join('---' for _ in heading)} |"
    for row in rows:
        yield f"| {' | '.join(map(str, row))} |"


def _yes(value: bool) -> str:
    return "yes" if value else "no"
