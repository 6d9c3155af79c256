"""Changing the catalog: everything that can be done within one write transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import Connection, delete

from leanpacs.catalog import copies, engine, keys, leases, onego, removal, restores, work
from leanpacs.catalog.ageing import Ageing
from leanpacs.catalog.forms import Fidelity, Kind, NewRepresentation
from leanpacs.catalog.keys import KeyRow
from leanpacs.catalog.landing import (
    Parents,
    blob_values,
    clean_text,
    discard,
    keep_blob,
    take_in,
    take_in_all,
)
from leanpacs.catalog.lookup import instance_by_uid
from leanpacs.catalog.outgoing import Outbound, enqueue
from leanpacs.catalog.replacing import Swap, replace_all
from leanpacs.catalog.rows import Action, Arrival, Deleted, DictionaryRow, InstanceRow, Landed, LandedWork, Landing
from leanpacs.catalog.schema import dictionaries, quarantine
from leanpacs.catalog.statements import Statements
from leanpacs.catalog.traffic import TrafficKey, Volume, add_traffic
from leanpacs.dicom.attributes import InstanceIndex
from leanpacs.errors import CatalogError, RefusedByPolicy
from leanpacs.refs import BlobRef, Tier


class Transaction:
    """One write transaction; `leanpacs.catalog.catalog.Catalog.writing` gives it out and commits it.

    Nothing is durable before the ``with`` block has ended without an exception. Keep the block short: on
    SQLite all other writers wait for it. Blobs are made durable before it begins.
    """

    def __init__(self, connection: Connection, statements: Statements) -> None:
        self._connection = connection
        self._statements = statements
        self._dialect = connection.dialect.name
        self._parents: Parents = {}
        self.ageing = Ageing(connection, statements)

    # -- instances

    def held(self, sop_uid: str) -> InstanceRow | None:
        """The instance of a SOP Instance UID, as this transaction sees it."""
        return instance_by_uid(self._connection, sop_uid)

    def land(self, index: InstanceIndex, landing: Landing) -> Landed:
        """Take in an instance that is durable as received.

        Attributes of its patient, study and series that were unknown are completed; known ones stay.

        Raises
        ------
        DuplicateInstance
            The SOP Instance UID is held; this transaction goes on as if the call had not been made.
        """
        return self._take_in(index, landing.arrival, Kind.LANDED, _as_received(landing), Action.LANDED)

    def land_all(self, arrived: Sequence[tuple[InstanceIndex, Landing]]) -> list[Landed | None]:
        """As `land`, for several in less time; None for those that are held, or come a second time."""
        arriving = [(index, landing.arrival, (Kind.LANDED, _as_received(landing))) for index, landing in arrived]
        return take_in_all(self._connection, self._statements, self._parents, arriving, Action.LANDED)

    def restore(self, index: InstanceIndex, arrival: Arrival, pack: NewRepresentation) -> Landed:
        """Take in an instance that is in a pack already (rebuilding a catalog). Raises as `land` does."""
        return self._take_in(index, arrival, Kind.PACK, pack, Action.RESTORED)

    def replace_instance(
        self, index: InstanceIndex, landing: Landing, *, actor: str, reason: str, due_at: datetime
    ) -> Landed:
        """Put other bytes in the place of an instance; a tombstone tells of the old one.

        The blobs of the old one may be collected from ``due_at`` on.

        Raises
        ------
        InstanceNotFound
            The SOP Instance UID is not held.
        RefusedByPolicy
            There is a hold on its study or series.
        """
        self._refuse_held(None, None, index.sop_uid)
        at = landing.arrival.received_at
        self._parents.clear()
        deletion = removal.Deletion(clean_text(actor), clean_text(reason), at, due_at, Action.REPLACED)
        self._delete_copies(deletion, None, None, index.sop_uid)
        removal.delete_instances(self._connection, deletion, sop_uid=index.sop_uid)
        return self.land(index, landing)

    def delete(
        self,
        *,
        study_uid: str | None = None,
        series_uid: str | None = None,
        sop_uid: str | None = None,
        actor: str,
        reason: str,
        now: datetime,
        grace_seconds: float = 0.0,
    ) -> Deleted:
        """Delete the instances of a study, a series or one of them; UIDs given together must all hold.

        Lossy copies of them that were made here go along. Each leaves a tombstone and a change record; blobs may be
        collected when the grace is over.

        Raises
        ------
        InstanceNotFound
            There is none.
        RefusedByPolicy
            There is a hold on something of it.
        """
        removal.lock(self._connection, study_uid, series_uid, sop_uid)
        self._refuse_held(study_uid, series_uid, sop_uid)
        due_at = now + timedelta(seconds=grace_seconds)
        self._parents.clear()
        deletion = removal.Deletion(clean_text(actor), clean_text(reason), now, due_at)
        copies = self._delete_copies(deletion, study_uid, series_uid, sop_uid)
        deleted = removal.delete_instances(
            self._connection, deletion, study_uid=study_uid, series_uid=series_uid, sop_uid=sop_uid
        )
        return Deleted(deleted.studies, deleted.series + copies.series, deleted.instances + copies.instances)

    def _delete_copies(
        self, deletion: removal.Deletion, study_uid: str | None, series_uid: str | None, sop_uid: str | None
    ) -> Deleted:
        """Delete the lossy copies of what is about to be deleted; those of a whole study stand in it."""
        if series_uid is None and sop_uid is None:
            return Deleted(0, 0, 0)
        series_gone = instances_gone = 0
        for uid in self.ageing.copies_of(study_uid=study_uid, series_uid=series_uid, sop_uid=sop_uid):
            self._refuse_held(None, None, uid)
            gone = removal.delete_instances(self._connection, deletion, sop_uid=uid)
            series_gone, instances_gone = series_gone + gone.series, instances_gone + gone.instances
        return Deleted(0, series_gone, instances_gone)

    def enqueue(self, entries: Sequence[Outbound], now: datetime) -> int:
        """Let instances wait to be sent (`Outgoing.enqueue`)."""
        return enqueue(self._connection, self._dialect, entries, now)

    def _refuse_held(self, study_uid: str | None, series_uid: str | None, sop_uid: str | None) -> None:
        held = self.ageing.held_by(study_uid=study_uid, series_uid=series_uid, sop_uid=sop_uid)
        if held:
            numbers = ", ".join(map(str, held))
            raise RefusedByPolicy("hold", f"hold {numbers} forbids deleting it; see 'leanpacs hold list'")

    # -- settling

    def claim_landed(
        self, owner: str, *, limit_count: int, limit_bytes: int, lease_seconds: float, now: datetime
    ) -> list[LandedWork]:
        """Claim landed instances, oldest first, that nobody works on or whose claim has run out.

        At least one is returned if there is one, however large; the next are added while those before
        them stay below ``limit_bytes`` together. ``representation.attempts`` counts this claim.
        """
        until = now + timedelta(seconds=lease_seconds)
        return work.claim(self._connection, work.Claim(owner, limit_count, limit_bytes, now, until))

    def extend_claims(self, owner: str, representation_ids: Sequence[int], until: datetime) -> int:
        """Hold claims until then; the number of those that are still the owner's."""
        return work.extend(self._connection, owner, representation_ids, until)

    def release_claims(self, owner: str, representation_ids: Sequence[int], retry_at: datetime) -> int:
        """Give claims back, to be claimed again from ``retry_at`` on; the number of those given back."""
        return work.let_go(self._connection, owner, representation_ids, retry_at)

    def release_claims_of(self, host: str) -> int:
        """End the claims of all owners whose names begin with ``host:``, on a host where none of them runs any more."""
        return work.let_go_of_host(self._connection, host)

    def release_all_claims(self) -> int:
        """End every claim, whoever holds it; only for a process that knows it is alone. The number of landed forms."""
        return work.let_all_go(self._connection)

    def settle(
        self,
        instance_id: int,
        landed_representation_id: int,
        pack: NewRepresentation,
        *,
        now: datetime,
        due_at: datetime,
    ) -> bool:
        """Put a pack in the place of the landed form, whose blob may be collected from ``due_at`` on.

        False when the landed form is no longer current (deleted, replaced, settled by somebody else). Nothing
        is changed then, but that the pack's blob, which nothing refers to, may be collected.
        """
        swap = Swap(instance_id, landed_representation_id, pack, now, due_at)
        return self.settle_all([swap])[0]

    def settle_all(self, swaps: Sequence[Swap]) -> list[bool]:
        """As `settle`, for many landed forms at once, in less time."""
        return replace_all(self._connection, self._statements, Kind.LANDED, swaps)

    # -- tiers

    def add_copy(self, representation_id: int, blob: BlobRef, *, now: datetime) -> int | None:
        """Name a second blob with the bytes of a stored form; the key of the new row, or of one that was there.

        None when the stored form is gone; the blob, unless something else refers to it, may be collected then.
        """
        return copies.add(self._connection, self._statements, representation_id, blob, now)

    def drop_copy(self, representation_id: int, *, now: datetime, due_at: datetime) -> bool:
        """Give up one blob of an instance; False, and nothing is changed, when no other one has the same bytes.

        The blob may be collected from ``due_at`` on.
        """
        return copies.drop(self._connection, self._statements, representation_id, now, due_at)

    def ask_restores(self, representation_ids: Sequence[int], *, now: datetime) -> int:
        """Remember that stored forms are to be brought back; the number of those that nobody had asked for."""
        return restores.ask(self._connection, representation_ids, now)

    def note_restored(self, representation_id: int, *, now: datetime) -> None:
        """Note that a stored form has been brought back."""
        restores.ready(self._connection, representation_id, now)

    def end_restore(self, representation_id: int) -> None:
        """Forget that a stored form was asked for."""
        restores.end(self._connection, representation_id)

    # -- what a series is encoded with

    def remember_choice(self, series_id: int, choice: str) -> None:
        """Remember what codec was chosen for a series (JSON); a series that is gone is ignored."""
        self._statements.choice.run(self._connection, {"series_id": series_id, "choice": choice})

    # -- leases

    def take_lease(self, name: str, owner: str, *, until: datetime, now: datetime) -> bool:
        """Take a lease that is free, has run out or is the owner's own; whether it is the owner's now."""
        return leases.take(self._connection, leases.Lease(clean_text(name), clean_text(owner), until), now)

    def give_back_lease(self, name: str, owner: str) -> bool:
        """End a lease; False when it was not the owner's any more."""
        return leases.give_back(self._connection, name, owner)

    # -- quarantine

    def quarantine(self, blob: BlobRef, *, name: str, sender: str, door: str, reason: str, now: datetime) -> int:
        """Keep something that does not read as DICOM; its key.

        The same bytes have one entry: another attempt is counted, and the latest reason is kept.
        """
        blob_key = keep_blob(self._connection, self._statements, blob, now)
        statement = engine.insert(self._dialect, quarantine).values(
            blob_key=blob_key,
            name=clean_text(name),
            sender=clean_text(sender),
            door=door,
            reason=clean_text(reason),
            received_at=now,
            attempts=1,
        )
        key: int = self._connection.execute(
            statement.on_conflict_do_update(
                index_elements=["blob_key"],
                set_={"reason": statement.excluded.reason, "attempts": quarantine.c.attempts + 1},
            ).returning(quarantine.c.id)
        ).scalar_one()
        return key

    def release_quarantine(self, quarantine_id: int, *, due_at: datetime) -> None:
        """Take an entry out of quarantine; unless it has landed, its blob may be collected from then on.

        Raises
        ------
        CatalogError
            There is no such entry.
        """
        blob_key = self._connection.scalar(
            delete(quarantine).where(quarantine.c.id == quarantine_id).returning(quarantine.c.blob_key)
        )
        if blob_key is None:
            raise CatalogError(f"nothing in quarantine has the number {quarantine_id}")
        discard(self._connection, self._statements, blob_key, due_at)

    # -- traffic

    def add_traffic(self, volumes: dict[TrafficKey, Volume]) -> None:
        """Add to the sums of the traffic ledger."""
        add_traffic(self._connection, self._dialect, volumes)

    # -- who may come in

    def add_key(self, key: KeyRow) -> None:
        """Keep a new API key; CatalogError when its ID is taken."""
        keys.add_key(self._connection, replace(key, name=clean_text(key.name), created_by=clean_text(key.created_by)))

    def revoke_key(self, key_id: str, now: datetime) -> bool:
        """Take an API key back; False when there is none of this ID that is not revoked."""
        return keys.revoke_key(self._connection, key_id, now)

    # -- blobs

    def hold_blobs(self, refs: Iterable[BlobRef], now: datetime) -> None:
        """Make blobs known, and keep the collector off them until this transaction ends.

        Look into the store after this: what is there now stays there, if the transaction refers to it.
        """
        if self._statements.holding is not None:  # where writers do not take turns
            rows = [onego.parameters("blob", blob_values(ref, now)) for ref in refs]
            if rows:
                self._connection.execute(self._statements.holding, {"rows": onego.as_json(rows)})

    def discard(self, blob: BlobRef, *, now: datetime, due_at: datetime) -> None:
        """Let a blob be collected from ``due_at`` on, unless something refers to it then.

        For what was written and is not needed: the same bytes may be another instance's, so nobody but the
        collector may delete them.
        """
        blob_key = keep_blob(self._connection, self._statements, blob, now)
        discard(self._connection, self._statements, blob_key, due_at)

    def collect_garbage(self, now: datetime, limit: int, tier: Tier | None = None) -> list[BlobRef]:
        """Blobs, of one tier or of all, that are due and that nothing refers to, at most ``limit``.

        They stay listed until `forget_garbage`. Delete the blobs and forget them within this transaction; and
        who commits a reference to a blob looks, within that transaction, whether the blob is in its store.
        One of the two waits for the other then, and no reference to a deleted blob is ever committed.
        """
        return removal.collect(self._connection, now, limit, tier)

    def forget_garbage(self, refs: Iterable[BlobRef]) -> None:
        """Drop what is known of blobs that are gone from their stores."""
        removal.forget(self._connection, refs)

    # -- dictionaries

    def add_dictionary(self, dictionary: DictionaryRow) -> None:
        """Make a dictionary known; one that is known stays as it is, dictionaries never change."""
        values = {
            "id": dictionary.id,
            "scope": clean_text(dictionary.scope),
            "version": dictionary.version,
            "digest": dictionary.digest,
            "size_bytes": dictionary.size_bytes,
            "samples": dictionary.samples,
            "trained_at": dictionary.trained_at,
        }
        statement = engine.insert(self._dialect, dictionaries).values(values)
        self._connection.execute(statement.on_conflict_do_nothing(index_elements=["id"]))

    def _take_in(
        self, index: InstanceIndex, arrival: Arrival, kind: Kind, new: NewRepresentation, action: Action
    ) -> Landed:
        return take_in(self._connection, self._statements, self._parents, index, arrival, (kind, new), action)


def _as_received(landing: Landing) -> NewRepresentation:
    return NewRepresentation(
        blob=landing.blob,
        form="received",
        fidelity=Fidelity.BYTES,
        created_at=landing.arrival.received_at,
        preface_length=landing.preface_length,
        raw_head_bytes=landing.raw_head_bytes,
        raw_frame_bytes=landing.raw_frame_bytes,
    )
