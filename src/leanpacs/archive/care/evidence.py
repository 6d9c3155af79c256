"""What proves that stored forms give back what was received: the catalog's evidence, beside the pack's own manifest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from leanpacs.archive.archive import Archive
from leanpacs.archive.giveback.seriespack import packed_instance
from leanpacs.archive.manifest import Manifest
from leanpacs.catalog import InstanceRow, Kind, RepresentationRow
from leanpacs.errors import InstanceNotFound, LeanPACSError


@dataclass(frozen=True, slots=True)
class Proof:
    """One stored form of an instance and what is known of it.

    Parameters
    ----------
    instance : InstanceRow
        What was received, with its digest.
    held : RepresentationRow
        The stored form, with its evidence.
    manifest : Manifest or None
        What the pack says of itself; None for what has landed and is not settled.
    problem : str
        Where pack and catalog do not agree, or why the pack cannot be read; '' when all is well.
    """

    instance: InstanceRow
    held: RepresentationRow
    manifest: Manifest | None
    problem: str

    @property
    def is_proven(self) -> bool:
        """Whether what was rebuilt was compared with what had been received, and was the same."""
        compared = self.held.evidence.data_set_digest
        return compared is not None and compared == self.instance.data_set_digest and not self.problem


def proofs(archive: Archive, uid: str) -> list[Proof]:
    """What proves an instance, or all instances of a series or study.

    Nothing is decoded: this tells what was compared when the pack was made. ``verify`` compares anew.

    Raises
    ------
    InstanceNotFound
        If nothing of that UID is held.
    """
    catalog = archive.catalog
    found = catalog.instances(sop_uid=uid) or catalog.instances(series_uid=uid) or catalog.instances(study_uid=uid)
    if not found:
        raise InstanceNotFound(uid)
    return [proof for instance in found for proof in _of_instance(archive, instance)]


def _of_instance(archive: Archive, instance: InstanceRow) -> Iterator[Proof]:
    for held in archive.catalog.representations(instance.id):
        manifest, problem = None, ""
        if held.kind is Kind.PACK:
            try:
                manifest = _manifest(archive, held, instance.sop_uid)
                problem = _disagreement(instance, held, manifest)
            except (LeanPACSError, OSError) as error:
                problem = str(error)
        yield Proof(instance, held, manifest, problem)


def _manifest(archive: Archive, held: RepresentationRow, sop_uid: str) -> Manifest:
    with archive.stores.at(held.blob.tier).open(held.blob.digest) as file:
        return packed_instance(file, (), sop_uid).manifest


def _disagreement(instance: InstanceRow, held: RepresentationRow, manifest: Manifest) -> str:
    differing = [
        name
        for name, catalogued, packed in (
            ("instance", instance.sop_uid, manifest.sop_uid),
            ("data set", instance.data_set_digest, manifest.digest),
            ("length", instance.data_set_length, manifest.length),
            ("form", held.form, str(manifest.form)),
            ("samples", held.evidence.samples_digest, manifest.samples_digest),
        )
        if catalogued != packed
    ]
    return f"catalog and pack do not agree on: {', '.join(differing)}" if differing else ""
