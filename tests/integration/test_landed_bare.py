"""Data sets that came over DIMSE land without file meta information, and nothing that it would say is lost."""

from __future__ import annotations

import io
from pathlib import Path

import pydicom
import pytest

import data
from dimse_peer import CT, Peer, door
from leanpacs.archive.archive import Archive, open_archive
from leanpacs.archive.care.rescue import Finding, Rescued, rebuild_catalog
from leanpacs.config import Settings
from leanpacs.dicom.uids import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE

SETTINGS = Settings(storage={"minimum_free_bytes": 0})
SYNTAXES = [IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE]


def sent(archive: Archive, content: bytes, syntax: str, sop_uid: str) -> None:
    """Send one data set over DIMSE."""
    with door(archive) as address, Peer(address) as peer:
        peer.associate([(3, CT, [syntax])])
        assert peer.store(content, sop_uid).Status == 0
        peer.release()


def rebuilt(folder: Path) -> list[Finding]:
    """Lose the catalog and make it anew."""
    for file in folder.glob("catalog.sqlite*"):
        file.unlink()
    findings: list[Finding] = []
    with open_archive(folder, SETTINGS) as archive:
        rebuild_catalog(archive, findings.append)
    return findings


def checked(archive: Archive, content: bytes, syntax: str, sop_uid: str) -> None:
    """What is given back is a file, and in it the data set as it was sent."""
    (instance,) = archive.catalog.instances(sop_uid=sop_uid)
    assert instance.transfer_syntax == syntax
    file = b"".join(archive.retriever.part10(instance).chunks)
    assert file.endswith(content)
    # What rebuild-catalog has found landed and unnamed is to it a file that had nothing in front.
    as_received = b"".join(archive.retriever.as_received(instance).chunks)
    assert as_received == (file if instance.door == "dimse" else content)
    meta = pydicom.dcmread(io.BytesIO(file)).file_meta
    assert (meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID) == (syntax, sop_uid)
    assert len(file) == len(content) + 144 + meta.FileMetaInformationGroupLength


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_given_back_as_a_file_landed_settled_and_from_a_lost_catalog(tmp_path: Path, syntax: str) -> None:
    recipe = data.Recipe(transfer_syntax=syntax, rows=64, columns=48)
    content, sop_uid = data.make_data_set_bytes(recipe), str(data.make_data_set(recipe).SOPInstanceUID)
    with open_archive(tmp_path, SETTINGS) as archive:
        sent(archive, content, syntax, sop_uid)
        (instance,) = archive.catalog.instances(sop_uid=sop_uid)
        (held,) = archive.catalog.representations(instance.id)
        assert archive.store.read(held.blob.digest) == content
        assert held.blob.digest == instance.data_set_digest
        assert instance.door == "dimse"
        checked(archive, content, syntax, sop_uid)
    assert [finding.kind for finding in rebuilt(tmp_path)] == [Rescued.LANDED]
    with open_archive(tmp_path, SETTINGS) as archive:
        checked(archive, content, syntax, sop_uid)
        archive.settler().drain()
        checked(archive, content, syntax, sop_uid)


def test_the_name_that_the_sender_gave_stays(tmp_path: Path) -> None:
    ds = data.make_data_set(data.Recipe())
    del ds.SOPInstanceUID
    whole = io.BytesIO()
    pydicom.dcmwrite(whole, ds, implicit_vr=False, little_endian=True)
    with open_archive(tmp_path, SETTINGS) as archive:
        sent(archive, whole.getvalue(), EXPLICIT_LE, "1.2.3.4")
        archive.settler().drain()
        checked(archive, whole.getvalue(), EXPLICIT_LE, "1.2.3.4")
        (instance,) = archive.catalog.instances(sop_uid="1.2.3.4")
        assert instance.assigned == ()
    assert not [finding for finding in rebuilt(tmp_path) if finding.kind is not Rescued.PACK]
    with open_archive(tmp_path, SETTINGS) as archive:
        checked(archive, whole.getvalue(), EXPLICIT_LE, "1.2.3.4")
        assert archive.catalog.instances(sop_uid="1.2.3.4")[0].assigned == ()
