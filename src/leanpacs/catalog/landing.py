"""Taking an instance into the catalog: the statements that run before a sender gets its acknowledgement.

The usual case, one more instance of a known series that says nothing new of its patient and study, takes five
statements and no more: look up the series, once in a transaction, insert instance, blob, representation and change.
On PostgreSQL the four that insert are one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from datetime import datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final

from leanpacs.catalog import names, onego
from leanpacs.catalog.forms import Kind, NewRepresentation
from leanpacs.catalog.lookup import instance_by_uid
from leanpacs.catalog.rows import Action, Arrival, DuplicateInstance, Landed
from leanpacs.catalog.statements import INSTANCE, PATIENT, PERSON_NAMES, SERIES, STUDY, Statements
from leanpacs.dicom.attributes import InstanceIndex
from leanpacs.errors import CatalogConflict
from leanpacs.refs import BlobRef, Tier

if TYPE_CHECKING:
    from sqlalchemy import Connection

_LONGEST_TEXT: Final = 512
_LARGEST_NUMBER: Final = 2**63 - 1

_patient_values = attrgetter(*PATIENT)
_study_values = attrgetter(*STUDY)
_series_values = attrgetter(*SERIES)
_instance_values = attrgetter(*INSTANCE)

Value = str | int | None
Parents = dict[tuple[str, str], Sequence[Any]]
"""What is known of patient, study and series, by the UIDs of study and series, within one transaction."""


def take_in(
    connection: Connection,
    statements: Statements,
    parents: Parents,
    index: InstanceIndex,
    arrival: Arrival,
    form: tuple[Kind, NewRepresentation],
    action: Action,
) -> Landed:
    """Insert an instance below its series, which is created or completed, with its stored form and a change record.

    Raises
    ------
    DuplicateInstance
        Its SOP Instance UID is held already. Nothing was changed then.
    """
    series_key = _series_of(connection, statements, parents, index, arrival.received_at)
    values = _instance_columns(series_key, index, arrival)
    keys = _insert(connection, statements, values, form, arrival.received_at, action)
    if keys is None:
        _refuse_duplicate(connection, index.sop_uid)
        raise CatalogConflict("the instance was deleted by another writer while it came in again")
    return Landed(*keys, series_key)


def take_in_all(
    connection: Connection,
    statements: Statements,
    parents: Parents,
    arriving: Sequence[tuple[InstanceIndex, Arrival, tuple[Kind, NewRepresentation]]],
    action: Action,
) -> list[Landed | None]:
    """As `take_in`, for several; None for those whose SOP Instance UID is held already, or is among those before."""
    if statements.landing is None:
        return [_unless_held(connection, statements, parents, one, action) for one in arriving]
    rows: dict[str, dict[str, Any]] = {}
    found: list[tuple[str, int] | None] = []
    for index, arrival, form in arriving:
        uid, place = index.sop_uid, None
        with contextlib.suppress(DuplicateInstance):
            if uid not in rows:
                series_key = _series_of(connection, statements, parents, index, arrival.received_at)
                values = _instance_columns(series_key, index, arrival)
                rows[uid], place = _landing_row(values, form, arrival.received_at, action), (uid, series_key)
        found.append(place)
    keys = _land_rows(connection, statements, list(rows.values()))
    return [Landed(*keys[one[0]], one[1]) if one and one[0] in keys else None for one in found]


def _unless_held(
    connection: Connection,
    statements: Statements,
    parents: Parents,
    one: tuple[InstanceIndex, Arrival, tuple[Kind, NewRepresentation]],
    action: Action,
) -> Landed | None:
    try:
        return take_in(connection, statements, parents, *one, action)
    except DuplicateInstance:
        return None


def _series_of(
    connection: Connection, statements: Statements, parents: Parents, index: InstanceIndex, received_at: datetime
) -> int:
    """Key of the series of an instance, which is created or completed where it says less than the instance.

    Raises
    ------
    DuplicateInstance
        It is to be changed, but the instance is held already. Nothing was changed then.
    """
    uids = {"study_uid": index.study_uid, "series_uid": index.series_uid}
    known = parents.get((index.study_uid, index.series_uid))
    if known is None:
        known = next(iter(statements.parents.run(connection, uids)), None)
    attributes = (*_patient_values(index.patient), *_study_values(index.study), *_series_values(index.series))
    if known is None or known[0] is None or _says_more(known[2:], attributes):
        _refuse_duplicate(connection, index.sop_uid)
        parents.clear()
        return _complete_parents(connection, statements, index, received_at, known)
    parents[index.study_uid, index.series_uid] = known
    key: int = known[0]
    return key


def _insert(
    connection: Connection,
    statements: Statements,
    values: dict[str, Any],
    form: tuple[Kind, NewRepresentation],
    at: datetime,
    action: Action,
) -> tuple[int, int] | None:
    """Insert instance, blob, form and change; keys of instance and form, None when the instance is held already."""
    kind, new = form
    if statements.landing is not None:
        row = _landing_row(values, form, at, action)
        return _land_rows(connection, statements, [row]).get(values["sop_uid"])
    inserted = statements.instance.run(connection, values)
    if not inserted:
        return None
    key: int = inserted[0][0]
    representation = keep_representation(connection, statements, key, kind, new)
    note_change(connection, statements, at, action, key)
    return key, representation


def _landing_row(
    values: dict[str, Any], form: tuple[Kind, NewRepresentation], at: datetime, action: Action
) -> dict[str, Any]:
    change = onego.parameters("change", {"at": at, "action": action})
    return onego.parameters("instance", values) | form_parameters(*form) | change


def _land_rows(
    connection: Connection, statements: Statements, rows: Sequence[dict[str, Any]]
) -> dict[str, tuple[int, int]]:
    """Keys of instances and of their forms, by SOP Instance UID, of those that were not held."""
    if not rows or statements.landing is None:
        return {}
    landed = connection.execute(statements.landing, {"rows": onego.as_json(rows)})
    return {uid: (key, form_key) for uid, key, form_key in landed}


def keep_blob(connection: Connection, statements: Statements, blob: BlobRef, created_at: datetime) -> int:
    """Key of a blob, which is made known when it is not."""
    [[key]] = statements.blob.run(connection, blob_values(blob, created_at))
    assert isinstance(key, int)
    return key


def blob_values(blob: BlobRef, created_at: datetime) -> dict[str, Any]:
    """The columns of a blob that has become known."""
    return {"digest": blob.digest, "tier": blob.tier, "size_bytes": blob.size_bytes, "created_at": created_at}


def keep_representation(
    connection: Connection,
    statements: Statements,
    instance_key: int,
    kind: Kind,
    new: NewRepresentation,
) -> int:
    """Commit one stored form of an instance; its key."""
    blob_key = keep_blob(connection, statements, new.blob, new.created_at)
    values = {"instance_key": instance_key, "blob_key": blob_key, **_form_values(kind, new)}
    [[key]] = statements.representation.run(connection, values)
    assert isinstance(key, int)
    return key


def keep_representations(
    connection: Connection, statements: Statements, forms: Sequence[tuple[int, Kind, NewRepresentation]]
) -> None:
    """Commit stored forms, each of the instance of a key; for a database whose writers take turns."""
    statements.hold_blob.run_many(connection, [blob_values(new.blob, new.created_at) for _, _, new in forms])
    digests = [new.blob.digest for _, _, new in forms]
    key_of = {
        (digest, Tier(tier)): key
        for key, digest, tier in connection.execute(statements.blob_keys, {"digests": digests})
    }
    values = [
        {"instance_key": key, "blob_key": key_of[new.blob.digest, new.blob.tier], **_form_values(kind, new)}
        for key, kind, new in forms
    ]
    statements.representations.run_many(connection, values)


def form_parameters(kind: Kind, new: NewRepresentation) -> dict[str, Any]:
    """A stored form and its blob, for the statements in `onego`."""
    blob = blob_values(new.blob, new.created_at)
    return onego.parameters("blob", blob) | onego.parameters("form", _form_values(kind, new))


def _form_values(kind: Kind, new: NewRepresentation) -> dict[str, Any]:
    """The columns of a stored form but for its keys."""
    evidence = new.evidence
    values = {
        "kind": kind,
        "form": new.form,
        "fidelity": new.fidelity,
        "codec": new.codec,
        "effort": new.effort,
        "precision": new.precision,
        "size_bytes": new.blob.size_bytes if new.size_bytes is None else new.size_bytes,
        "preface_length": new.preface_length,
        "frames_index": new.frames.data,
        "dictionary_id": new.dictionary_id,
        "raw_head_bytes": new.raw_head_bytes,
        "raw_frame_bytes": new.raw_frame_bytes,
        "stored_head_bytes": new.stored_head_bytes,
        "stored_frame_bytes": new.stored_frame_bytes,
        "evidence_data_set_digest": evidence.data_set_digest,
        "evidence_samples_digest": evidence.samples_digest,
        "evidence_verified_at": evidence.verified_at,
        "evidence_library": evidence.library,
        "evidence_decoder": evidence.decoder,
        "evidence_seconds": evidence.seconds,
        "evidence_preset": evidence.preset,
        "evidence_encode_seconds": evidence.encode_seconds,
        "reason": new.reason,
        "created_at": new.created_at,
    }
    for name, span in (("head", new.head), ("tail", new.tail), ("skeleton", new.skeleton)):
        values[f"{name}_offset"] = span.offset if span else 0
        values[f"{name}_length"] = span.length if span else 0
    return values


def discard(connection: Connection, statements: Statements, blob_key: int, due_at: datetime) -> None:
    """Let a blob be collected from ``due_at`` on, unless something refers to it then."""
    statements.garbage.run(connection, {"blob_key": blob_key, "due_at": due_at})


def note_change(
    connection: Connection,
    statements: Statements,
    at: datetime,
    action: Action,
    instance_key: int,
) -> None:
    """Append to the change feed."""
    statements.change.run(connection, {"at": at, "action": action, "instance_key": instance_key})


def cleaned(values: dict[str, Value]) -> dict[str, Value]:
    """Values as every database can hold them: no NUL, no lone surrogates, no endless text, 64-bit numbers.

    The catalog's copy serves searching; what was received stays complete in the head.
    """
    return {name: _clean(value) for name, value in values.items()}


def _clean(value: Value) -> Value:
    if isinstance(value, str):
        return clean_text(value)
    return value if value is None or -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER else None


def clean_text(text: str) -> str:
    """Text as every database can hold it, cut at 512 characters; no attribute here may be longer."""
    if not text.isascii():
        text = text.encode("utf-8", "replace").decode("utf-8")
    return text[:_LONGEST_TEXT].replace("\0", "")


def _says_more(held: Any, received: tuple[Value, ...]) -> bool:
    """Whether something received has a value where what is held has none."""
    return any(new not in ("", None) and old in ("", None) for old, new in zip(held, received, strict=True))


def _refuse_duplicate(connection: Connection, sop_uid: str) -> None:
    existing = instance_by_uid(connection, sop_uid)
    if existing is not None:
        raise DuplicateInstance(existing)


def _complete_parents(
    connection: Connection,
    statements: Statements,
    index: InstanceIndex,
    received_at: datetime,
    known: Sequence[Any] | None,
) -> int:
    """Create patient, study and series, or fill in what they lack; the key of the series."""
    patient = cleaned(dict(zip(PATIENT, _patient_values(index.patient), strict=True)))
    study = cleaned(dict(zip(STUDY, _study_values(index.study), strict=True)))
    one_series = cleaned(dict(zip(SERIES, _series_values(index.series), strict=True)))
    if known is not None:
        # A study stays with its patient, even if an instance names another one.
        patient = {name: held or patient[name] for name, held in zip(PATIENT, known[2:], strict=False)}
    # Patients without an ID are not one person: their common row says nothing.
    identified = patient if patient["patient_id"] else dict.fromkeys(PATIENT, "")
    [[patient_key]] = statements.patient.run(connection, identified)
    values = {"patient_key": patient_key, "study_uid": index.study_uid, "received_at": received_at}
    [[study_key, *person_names_held]] = statements.study.run(connection, {**values, **patient, **study})
    if known is not None and known[1] != patient_key:
        statements.lonely_patient.run(connection, {"key": known[1]})
    words = list(_person_name_rows(study_key, person_names_held))
    if words:
        statements.person_name.run_many(connection, words)
    values = {"study_key": study_key, "series_uid": index.series_uid, "received_at": received_at}
    [[series_key]] = statements.series.run(connection, {**values, **one_series})
    assert isinstance(series_key, int)
    return series_key


def _person_name_rows(study_key: int, held: Sequence[str]) -> Iterator[dict[str, Value]]:
    for attribute, name in zip(PERSON_NAMES, held, strict=True):
        for part, folded in sorted(names.parts(name)):
            yield {"attribute": attribute, "part": part, "folded": folded, "study_key": study_key}


def _instance_columns(series_key: int, index: InstanceIndex, arrival: Arrival) -> dict[str, Any]:
    return {
        **cleaned(dict(zip(INSTANCE, _instance_values(index.instance), strict=True))),
        "series_key": series_key,
        "sop_uid": index.sop_uid,
        "sop_class": clean_text(index.sop_class),
        "transfer_syntax": clean_text(arrival.transfer_syntax),
        "data_set_length": arrival.data_set_length,
        "data_set_digest": arrival.data_set_digest,
        "assigned": "\\".join(index.assigned),
        "sender": clean_text(arrival.sender),
        "door": arrival.door,
        "warning": clean_text(arrival.warning),
        "received_at": arrival.received_at,
    }
