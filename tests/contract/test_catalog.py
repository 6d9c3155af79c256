"""What every catalog does, on SQLite (in a file and in memory) and on PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import URL, text

from leanpacs.catalog import (
    Action,
    Backlog,
    Catalog,
    Deleted,
    DictionaryRow,
    DuplicateInstance,
    Fidelity,
    Kind,
    LandedWork,
    Query,
    Share,
    Span,
    open_catalog,
)
from leanpacs.catalog.found import Totals
from leanpacs.catalog.schema import METADATA
from leanpacs.dicom.attributes import InstanceIndex
from leanpacs.errors import CatalogError, InstanceNotFound
from leanpacs.refs import BlobRef, Digest, Tier
from postgres_server import schema_of_its_own
from unit.catalog.recipes import (
    NOW,
    land,
    later,
    make_blob,
    make_index,
    make_landing,
    make_pack,
    make_query,
    numbers,
)


@pytest.fixture(scope="module")
def on_postgresql(postgres_database: URL) -> Iterator[Catalog]:
    with schema_of_its_own(postgres_database) as url, closing(open_catalog(url)) as opened:
        yield opened


@pytest.fixture(params=["file", "memory", "postgresql"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Catalog]:
    """An empty catalog; the one on PostgreSQL is emptied for each test, which is faster than to make one."""
    if request.param == "postgresql":
        opened: Catalog = request.getfixturevalue("on_postgresql")
        with opened._database.writing() as connection:
            tables = ", ".join(METADATA.tables)
            connection.execute(text(f"TRUNCATE {tables} RESTART IDENTITY CASCADE"))
        yield opened
    else:
        with closing(open_catalog(tmp_path / "catalog.sqlite" if request.param == "file" else ":memory:")) as opened:
            yield opened


def claim(catalog: Catalog, owner: str = "settler", **changed: Any) -> list[LandedWork]:
    options = {"limit_count": 100, "limit_bytes": 1 << 40, "lease_seconds": 60.0, "now": NOW}
    with catalog.writing() as tx:
        return tx.claim_landed(owner, **{**options, **changed})


def settle(catalog: Catalog, work: LandedWork, **changed: Any) -> bool:
    pack = make_pack(work.instance.sop_uid, **changed)
    with catalog.writing() as tx:
        return tx.settle(work.instance.id, work.representation.id, pack, now=later(5), due_at=later(10))


def garbage(catalog: Catalog, seconds: float = 1e6, limit: int = 1000) -> list[BlobRef]:
    with catalog.writing() as tx:
        return tx.collect_garbage(later(seconds), limit)


def actions(catalog: Catalog) -> list[tuple[Action, str]]:
    return [(change.action, change.sop_uid) for change in catalog.changes()]


# -- landing


def test_landed_instance_is_there_with_all_its_facts(catalog: Catalog) -> None:
    index = make_index(
        patient_id="P1",
        patient_name="Doe^John",
        study_date="20240131",
        modality="CT",
        series_number=3,
        instance_number=7,
        rows=512,
        columns=256,
        number_of_frames=2,
    )
    index = replace(index, assigned=("StudyInstanceUID", "SeriesInstanceUID"))
    landing = make_landing(index)
    [landed] = land(catalog, index)
    [row] = catalog.instances(sop_uid=index.sop_uid)
    arrival = landing.arrival
    assert (row.id, row.series_id) == (landed.instance_id, landed.series_id)
    assert (row.study_uid, row.series_uid, row.sop_uid) == ("1.2.3.1", "1.2.3.1.1", "1.2.3.1.1.1")
    assert (row.sop_class, row.transfer_syntax) == (index.sop_class, arrival.transfer_syntax)
    assert (row.rows, row.columns, row.number_of_frames) == (512, 256, 2)
    assert (row.data_set_length, row.data_set_digest) == (arrival.data_set_length, arrival.data_set_digest)
    assert (row.received_at, row.sender, row.door) == (NOW, "SENDER", "dimse")
    assert row.assigned == index.assigned
    [representation] = catalog.representations(row.id)
    assert representation.id == landed.representation_id
    assert representation.instance_id == row.id
    assert representation.kind is Kind.LANDED
    assert representation.fidelity is Fidelity.BYTES
    assert representation.blob == landing.blob
    assert representation.size_bytes == landing.blob.size_bytes
    assert representation.preface_length == 300
    assert (representation.head, representation.tail, len(representation.frames)) == (None, None, 0)
    [found] = catalog.find_instances(Query("instance"))
    assert (found.held, found.patient, found.study) == (row, index.patient, index.study)
    assert (found.series, found.instance) == (index.series, index.instance)
    assert catalog.blobs_of(row.id) == [landing.blob]
    assert catalog.instances_in(landing.blob.digest) == [row]
    assert list(catalog.all_blob_refs()) == [landing.blob]


def test_levels_are_shared_and_counted(catalog: Catalog) -> None:
    land(
        catalog,
        *(make_index(1, 1, n, modality="CT", patient_id="A") for n in range(3)),
        make_index(1, 2, 1, modality="SR", patient_id="A"),
        make_index(1, 3, 1, modality="CT", patient_id="A"),
        make_index(2, 1, 1, modality="MR", patient_id="A"),
    )
    first, second = catalog.find_studies(Query("study"))
    assert (first.modalities, first.number_of_series, first.number_of_instances) == (("CT", "SR"), 3, 5)
    assert (second.modalities, second.number_of_series, second.number_of_instances) == (("MR",), 1, 1)
    assert [row.number_of_instances for row in catalog.find_series(Query("series"))] == [3, 1, 1, 1]
    summary = catalog.summary()
    assert (summary.patients, summary.studies, summary.series) == (1, 2, 4)


def test_rows_of_every_level_have_the_totals_that_are_asked_for(catalog: Catalog) -> None:
    ct, report = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.11"
    land(
        catalog,
        *(make_index(1, 1, n, modality="CT", patient_id="A", sop_class=ct) for n in range(3)),
        make_index(1, 2, 1, modality="SR", patient_id="A", sop_class=report),
        make_index(2, 1, 1, modality="MR", patient_id="A"),
        make_index(3, 1, 1, modality="MR"),
        make_index(4, 1, 1, modality="MR"),
    )
    wanted = frozenset(field.name for field in fields(Totals))
    first, second, *lonely = catalog.find_studies(Query("study", totals=wanted))
    assert first.totals == Totals(("CT", "SR"), (ct, report), 2, 4, None, 2, 3, 5)
    assert (second.totals.modalities, second.totals.study_instances) == (("MR",), 1)
    assert second.totals.patient_instances == 5
    assert [row.totals.patient_studies for row in lonely] == [None, None]  # nobody knows whose they are
    series = catalog.find_series(Query("series", totals=wanted))
    assert [row.totals.series_instances for row in series] == [3, 1, 1, 1, 1]
    assert series[0].totals == replace(first.totals, series_instances=3)
    instances = catalog.find_instances(Query("instance", totals=wanted, limit=4, offset=1))
    assert [row.totals.series_instances for row in instances] == [3, 3, 1, 1]
    assert instances[0].totals == series[0].totals
    assert catalog.find_studies(Query("study"))[0].totals == Totals()


def test_attributes_are_completed_and_not_overwritten(catalog: Catalog) -> None:
    land(
        catalog,
        make_index(1, 1, 1, patient_id="A", modality="CT"),
        make_index(1, 1, 2, patient_name="Doe^John", study_date="20240131", modality="MR", series_number=3),
        make_index(1, 1, 3, patient_name="Roe", study_date="20250131", study_id="7", series_number=4),
    )
    [study] = catalog.find_studies(Query("study"))
    assert study.patient.patient_id == "A"
    assert study.patient.patient_name == "Doe^John"
    assert (study.study.study_date, study.study.study_id) == ("20240131", "7")
    [series] = catalog.find_series(Query("series"))
    assert (series.series.modality, series.series.series_number) == ("CT", 3)
    assert numbers(catalog.find_studies(make_query("study", PatientName="doe^john"))) == [1]
    assert numbers(catalog.find_studies(make_query("study", PatientName="roe"))) == []


def test_patient_that_becomes_known_is_moved_to(catalog: Catalog) -> None:
    land(catalog, make_index(1, 1, 1), make_index(2, 1, 1, patient_id="A"))
    assert catalog.summary().patients == 2
    land(catalog, make_index(1, 1, 2, patient_id="A"))
    assert catalog.summary().patients == 1
    land(catalog, make_index(1, 1, 3, issuer_of_patient_id="HOSPITAL"))
    assert catalog.summary().patients == 2
    assert numbers(catalog.find_studies(make_query("study", IssuerOfPatientID="HOSPITAL"))) == [1]


def test_equal_patient_ids_do_not_mix_names(catalog: Catalog) -> None:
    land(
        catalog,
        make_index(1, patient_id="1", patient_name="Doe"),
        make_index(2, patient_id="1", patient_name="Roe"),
        make_index(3, patient_name="Poe"),
        make_index(4),
    )
    names = [row.patient.patient_name for row in catalog.find_studies(Query("study"))]
    assert names == ["Doe", "Roe", "Poe", ""]
    assert numbers(catalog.find_studies(make_query("study", PatientName="roe"))) == [2]


def test_duplicate_is_told_and_leaves_no_trace(catalog: Catalog) -> None:
    index = make_index(1, 1, 1, patient_id="A")
    land(catalog, index)
    elsewhere = replace(index, study_uid="1.2.9", series_uid="1.2.9.1")
    more = replace(index, patient=replace(index.patient, patient_name="Doe"))
    with catalog.writing() as tx:
        for again in (index, elsewhere, more):
            with pytest.raises(DuplicateInstance) as caught:
                tx.land(again, make_landing(again, tag="other bytes"))
            assert caught.value.existing == tx.held(index.sop_uid)
        tx.land(make_index(1, 1, 2), make_landing(make_index(1, 1, 2)))
    assert caught.value.existing.data_set_digest == make_landing(index).arrival.data_set_digest
    [study] = catalog.find_studies(Query("study"))
    assert (study.study_uid, study.number_of_instances) == ("1.2.3.1", 2)
    assert study.patient.patient_name == ""
    assert catalog.summary().patients == 1
    assert len(list(catalog.all_blob_refs())) == 2
    assert len(catalog.changes()) == 2


def test_one_series_uid_in_two_studies(catalog: Catalog) -> None:
    first = make_index(1, 1, 1, series_description="first")
    second = replace(make_index(2, 1, 1, series_description="second"), series_uid=first.series_uid)
    land(catalog, first, second)
    rows = catalog.find_series(make_query("series", SeriesInstanceUID=first.series_uid))
    assert [(row.study_uid, row.series.series_description) for row in rows] == [
        ("1.2.3.1", "first"),
        ("1.2.3.2", "second"),
    ]
    assert len(catalog.instances(study_uid="1.2.3.2", series_uid=first.series_uid)) == 1


def test_odd_values_are_held_as_well_as_can_be(catalog: Catalog) -> None:
    index = make_index(
        patient_id="x" * 2000,
        patient_name="half \ud800 a^character",
        study_description="nul \0 inside",
        series_number=2**70,
        instance_number=-(2**63),
        rows=-1,
    )
    land(catalog, index)
    [found] = catalog.find_instances(Query("instance"))
    assert found.patient.patient_id == "x" * 512
    assert found.patient.patient_name == "half ? a^character"
    assert found.study.study_description == "nul  inside"
    assert (found.series.series_number, found.instance.instance_number) == (None, None)
    assert found.instance.rows == -1


def test_instances_come_in_order(catalog: Catalog) -> None:
    land(
        catalog,
        make_index(1, 2, 1, instance_number=1),
        make_index(1, 1, 2, instance_number=2),
        make_index(1, 1, 1, instance_number=1),
        make_index(2, 1, 1),
    )
    uids = [row.sop_uid for row in catalog.instances(study_uid="1.2.3.1")]
    assert uids == ["1.2.3.1.2.1", "1.2.3.1.1.1", "1.2.3.1.1.2"]
    assert [row.sop_uid for row in catalog.instances(series_uid="1.2.3.1.1")] == uids[1:]
    assert catalog.instances(study_uid="1.2.3.2", series_uid="1.2.3.1.1") == []
    assert [row.id for row in catalog.all_instances()] == sorted(row.id for row in catalog.all_instances())
    with pytest.raises(ValueError, match="all_instances"):
        catalog.instances()


def test_everything_is_read_over_many_pages(catalog: Catalog) -> None:
    land(catalog, *(make_index(1, 1, n) for n in range(1203)))
    assert len({row.sop_uid for row in catalog.all_instances()}) == 1203
    assert len(set(catalog.all_blob_refs())) == 1203
    half = list(catalog.all_instances())[600].id
    assert len(list(catalog.all_instances(after_id=half))) == 602


def test_results_by_pages(catalog: Catalog) -> None:
    land(catalog, *(make_index(n) for n in range(7)))
    pages = [numbers(catalog.find_studies(Query("study", limit=3, offset=at))) for at in (0, 3, 6, 9)]
    assert pages == [[0, 1, 2], [3, 4, 5], [6], []]
    assert numbers(catalog.find_studies(Query("study", offset=5))) == [5, 6]
    assert numbers(catalog.newest_studies(2)) == [6, 5]


def test_searches_of_every_kind(catalog: Catalog) -> None:
    """The same answers from every database; test_query goes deeper, on SQLite."""
    land(
        catalog,
        make_index(
            1,
            patient_name="Doe_100%^John=山田^太郎",
            study_date="20240131",
            study_time="1030",
            modality="CT",
            series_number=3,
            image_type="ORIGINAL\\PRIMARY",
            study_description="Head [1] \\ 50%",
        ),
        make_index(2, patient_name="Müller^Jörg", study_date="20240201", study_time="103000.5", modality="MR"),
        make_index(3, modality="ct", study_description="head"),
    )
    cases: list[tuple[dict[str, str], list[int]]] = [
        ({"PatientName": "doe_1*"}, [1]),
        ({"PatientName": "doex1*"}, []),
        ({"PatientName": "山田*"}, [1]),
        ({"PatientName": "*=?田*"}, [1]),
        ({"PatientName": "MÜLLER^*"}, [2]),
        ({"PatientName": '""'}, [3]),
        ({"StudyDescription": "Head [1]*50%"}, [1]),
        ({"StudyDescription": "?ead"}, [3]),
        ({"StudyDescription": "HEAD"}, []),
        ({"StudyDate": "20240101-20240131"}, [1]),
        ({"StudyDate": "20240131-", "StudyTime": "1030-103000"}, [1, 2]),
        ({"StudyTime": "10:30"}, [1, 2]),
        ({"StudyTime": "103000.5-"}, [2]),
        ({"StudyDate": "20240131-20240201", "StudyTime": "1031-1030"}, [2]),
        ({"ModalitiesInStudy": "CT\\MR"}, [1, 2]),
        ({"SOPClassesInStudy": "1.2.840.10008.5.1.4.1.1.2"}, [1, 2, 3]),
        ({"StudyInstanceUID": "1.2.3.1\\1.2.3.3"}, [1, 3]),
    ]
    for texts, studies in cases:
        assert numbers(catalog.find_studies(make_query("study", **texts))) == studies, texts
    for texts, studies in cases:  # the same shapes again, with limits
        query = Query("study", make_query("study", **texts).filters, limit=5)
        assert numbers(catalog.find_studies(query)) == studies, texts
        assert numbers(catalog.find_studies(replace(query, offset=1, limit=1))) == studies[1:2], texts
    fuzzy = Query("study", make_query("study", PatientName="jor mul").filters, fuzzy=True)
    assert numbers(catalog.find_studies(fuzzy)) == [2]
    assert numbers(catalog.find_series(make_query("series", SeriesNumber="3", Modality="C?"))) == [1]
    [instance] = catalog.find_instances(make_query("instance", ImageType="PRIM*"))
    assert instance.held.study_uid == "1.2.3.1"


# -- settling


def test_work_is_claimed_once_oldest_first(catalog: Catalog) -> None:
    landed = land(catalog, *(make_index(1, 1, n) for n in range(5)))
    first = claim(catalog, "one", limit_count=2)
    second = claim(catalog, "two")
    assert [work.representation.id for work in first + second] == [one.representation_id for one in landed]
    assert (len(first), len(second)) == (2, 3)
    assert claim(catalog, "three") == []
    assert first[0].instance == catalog.instances(sop_uid="1.2.3.1.1.0")[0]
    assert first[0].representation == catalog.representations(first[0].instance.id)[0]
    assert first[0].representation.attempts == 1
    assert first[0].series_choice is None


@pytest.mark.parametrize(("limit_bytes", "count"), [(1, 1), (1000, 1), (1001, 2), (2000, 2), (2500, 3)])
def test_claims_end_at_a_number_of_bytes(catalog: Catalog, limit_bytes: int, count: int) -> None:
    land(catalog, *(make_index(1, 1, n) for n in range(5)), size_bytes=1000)
    assert len(claim(catalog, limit_bytes=limit_bytes)) == count


def test_claims_run_out_and_are_counted(catalog: Catalog) -> None:
    land(catalog, make_index())
    assert len(claim(catalog, "one", lease_seconds=60)) == 1
    assert claim(catalog, "two", now=later(59)) == []
    [work] = claim(catalog, "two", now=later(60))
    assert work.representation.attempts == 2


def test_claims_are_extended_and_given_back_by_their_owner_only(catalog: Catalog) -> None:
    land(catalog, make_index())
    [work] = claim(catalog, "one")
    ids = [work.representation.id]
    with catalog.writing() as tx:
        assert tx.extend_claims("two", ids, later(500)) == 0
        assert tx.extend_claims("one", ids, later(500)) == 1
    assert claim(catalog, "two", now=later(499)) == []
    with catalog.writing() as tx:
        assert tx.release_claims("two", ids, later(0)) == 0
        assert tx.release_claims("one", ids, later(100)) == 1
        assert tx.release_claims("one", ids, later(100)) == 0
    assert claim(catalog, "two", now=later(99)) == []
    assert len(claim(catalog, "two", now=later(100))) == 1


def test_all_claims_end_at_once(catalog: Catalog) -> None:
    land(catalog, *(make_index(1, 1, n) for n in range(3)))
    claim(catalog, "one", limit_count=1)
    [work] = claim(catalog, "two", limit_count=1)
    settle(catalog, work)
    with catalog.writing() as tx:
        assert tx.release_all_claims() == 2
    assert len(claim(catalog, "three")) == 2


def test_settled_instance_has_its_pack_in_place_of_the_landed_form(catalog: Catalog) -> None:
    index = make_index()
    land(catalog, index)
    [work] = claim(catalog)
    pack = make_pack("settled", tail=Span(190, 3), skeleton=Span(193, 4), reason="smaller than none")
    with catalog.writing() as tx:
        assert tx.settle(work.instance.id, work.representation.id, pack, now=NOW, due_at=later(10))
    [row] = catalog.representations(work.instance.id)
    assert row.kind is Kind.PACK
    assert row.size_bytes == pack.blob.size_bytes
    given = {name: getattr(row, name) for name in pack.__dataclass_fields__ if name != "size_bytes"}
    assert given == {name: getattr(pack, name) for name in given}
    assert row.id != work.representation.id
    assert claim(catalog, now=later(1e6)) == []
    assert garbage(catalog, 9) == []
    assert garbage(catalog, 10) == [make_landing(index).blob]
    assert actions(catalog) == [(Action.LANDED, index.sop_uid), (Action.SETTLED, index.sop_uid)]


def test_the_first_to_settle_wins(catalog: Catalog) -> None:
    land(catalog, make_index())
    [one] = claim(catalog, "one")
    [two] = claim(catalog, "two", now=later(100))
    assert settle(catalog, two)
    late = make_pack("too late")
    with catalog.writing() as tx:
        assert not tx.settle(one.instance.id, one.representation.id, late, now=later(5), due_at=later(10))
    assert len(catalog.representations(one.instance.id)) == 1
    assert late.blob in garbage(catalog)


def test_only_a_landed_form_is_settled(catalog: Catalog) -> None:
    land(catalog, make_index())
    [work] = claim(catalog)
    assert settle(catalog, work)
    [pack] = catalog.representations(work.instance.id)
    assert not settle(catalog, replace(work, representation=pack), codec="other")
    assert catalog.representations(work.instance.id) == [pack]


def test_settling_twice_with_the_same_pack_keeps_it(catalog: Catalog) -> None:
    land(catalog, make_index())
    [one] = claim(catalog, "one")
    assert settle(catalog, one)
    assert not settle(catalog, one)
    [row] = catalog.representations(one.instance.id)
    assert row.blob not in garbage(catalog)


def test_deleted_instance_is_not_settled(catalog: Catalog) -> None:
    index = make_index()
    land(catalog, index)
    [work] = claim(catalog)
    with catalog.writing() as tx:
        tx.delete(sop_uid=index.sop_uid, actor="cli:me", reason="test", now=NOW)
    land(catalog, make_index(2, 2, 2))
    assert not settle(catalog, work)
    [other] = claim(catalog, now=later(1000))
    assert other.instance.sop_uid == "1.2.3.2.2.2"
    assert other.representation.kind is Kind.LANDED


def test_replaced_instance_is_not_settled_from_the_old_bytes(catalog: Catalog) -> None:
    index = make_index()
    land(catalog, index)
    [work] = claim(catalog)
    landing = make_landing(index, tag="new bytes", at=later(3))
    with catalog.writing() as tx:
        landed = tx.replace_instance(index, landing, actor="dimse:A", reason="replaced", due_at=later(10))
    assert not settle(catalog, work)
    [row] = catalog.instances(sop_uid=index.sop_uid)
    assert (row.id, row.data_set_digest) == (landed.instance_id, landing.arrival.data_set_digest)
    assert row.id != work.instance.id
    assert [one.blob for one in catalog.representations(row.id)] == [landing.blob]
    tombstone = catalog.tombstone(index.sop_uid)
    assert tombstone is not None
    assert tombstone.data_set_digest == make_landing(index).arrival.data_set_digest
    assert [action for action, _ in actions(catalog)] == [Action.LANDED, Action.REPLACED, Action.LANDED]
    assert make_landing(index).blob in garbage(catalog, 10)


def test_replacing_what_is_not_there(catalog: Catalog) -> None:
    index = make_index()
    with pytest.raises(InstanceNotFound), catalog.writing() as tx:
        tx.replace_instance(index, make_landing(index), actor="a", reason="b", due_at=NOW)
    assert catalog.find_studies(Query("study")) == []


def test_choice_is_remembered_for_the_series(catalog: Catalog) -> None:
    [landed] = land(catalog, make_index(1, 1, 1))
    for choice in ('{"codec":"jpegls"}', '{"codec":"jpegxl"}'):
        with catalog.writing() as tx:
            tx.remember_choice(landed.series_id, choice)
            tx.remember_choice(landed.series_id + 1000, choice)
    land(catalog, make_index(1, 1, 2))
    assert [work.series_choice for work in claim(catalog)] == ['{"codec":"jpegxl"}'] * 2
    assert catalog.choice(landed.series_id) == '{"codec":"jpegxl"}'
    assert catalog.choice(landed.series_id + 1000) is None
    with catalog.writing() as tx:
        tx.delete(series_uid="1.2.3.1.1", actor="a", reason="b", now=NOW)
    assert catalog.choice(landed.series_id) is None


def test_backlog_is_what_waits(catalog: Catalog) -> None:
    assert catalog.backlog() == Backlog(0, 0, None)
    land(catalog, make_index(1, 1, 1), size_bytes=700, at=later(7))
    land(catalog, make_index(1, 1, 2), size_bytes=800, at=later(8))
    assert catalog.backlog() == Backlog(2, 1500, later(7))
    work = claim(catalog, limit_count=1)
    assert catalog.backlog().count == 2
    settle(catalog, work[0])
    assert catalog.backlog() == Backlog(1, 800, later(8))


def test_restored_instance_needs_no_settling(catalog: Catalog) -> None:
    index = make_index()
    pack = make_pack("restored")
    with catalog.writing() as tx:
        landed = tx.restore(index, make_landing(index).arrival, pack)
        with pytest.raises(DuplicateInstance):
            tx.restore(index, make_landing(index).arrival, pack)
    assert catalog.backlog().count == 0
    assert [row.kind for row in catalog.representations(landed.instance_id)] == [Kind.PACK]
    assert actions(catalog) == [(Action.RESTORED, index.sop_uid)]


# -- deleting and sweeping


def three_series() -> list[InstanceIndex]:
    return [
        make_index(study, series, instance, patient_id="A", patient_name="Doe")
        for study, series, instance in ((1, 1, 1), (1, 1, 2), (1, 2, 1), (2, 1, 1))
    ]


@pytest.mark.parametrize(
    ("uids", "deleted", "left"),
    [
        ({"study_uid": "1.2.3.1"}, Deleted(1, 2, 3), ["1.2.3.2.1.1"]),
        ({"series_uid": "1.2.3.1.1"}, Deleted(0, 1, 2), ["1.2.3.1.2.1", "1.2.3.2.1.1"]),
        ({"sop_uid": "1.2.3.1.1.2"}, Deleted(0, 0, 1), ["1.2.3.1.1.1", "1.2.3.1.2.1", "1.2.3.2.1.1"]),
        (
            {"study_uid": "1.2.3.1", "sop_uid": "1.2.3.1.2.1"},
            Deleted(0, 1, 1),
            ["1.2.3.1.1.1", "1.2.3.1.1.2", "1.2.3.2.1.1"],
        ),
    ],
)
def test_deletion_takes_what_was_named(
    catalog: Catalog, uids: dict[str, str], deleted: Deleted, left: list[str]
) -> None:
    indexes = three_series()
    land(catalog, *indexes)
    with catalog.writing() as tx:
        counts = tx.delete(**uids, actor="cli:me", reason="asked for", now=later(5), grace_seconds=100)
    assert counts == deleted
    assert [row.sop_uid for row in catalog.all_instances()] == left
    gone = [index for index in indexes if index.sop_uid not in left]
    for index in gone:
        tombstone = catalog.tombstone(index.sop_uid)
        assert tombstone is not None
        assert (tombstone.study_uid, tombstone.series_uid) == (index.study_uid, index.series_uid)
        assert (tombstone.actor, tombstone.reason) == ("cli:me", "asked for")
        assert tombstone.deleted_at == later(5)
        assert tombstone.data_set_digest == make_landing(index).arrival.data_set_digest
    assert garbage(catalog, 104) == []
    assert set(garbage(catalog, 105)) == {make_landing(index).blob for index in gone}
    feed = catalog.changes(since=4)
    assert [(one.action, one.at, one.study_uid, one.series_uid, one.sop_uid) for one in feed] == [
        (Action.DELETED, later(5), index.study_uid, index.series_uid, index.sop_uid) for index in gone
    ]


def test_nothing_is_left_of_what_is_deleted_entirely(catalog: Catalog) -> None:
    land(catalog, *three_series())
    with catalog.writing() as tx:
        tx.delete(study_uid="1.2.3.1", actor="a", reason="b", now=NOW)
    assert catalog.summary().patients == 1
    with catalog.writing() as tx:
        tx.delete(study_uid="1.2.3.2", actor="a", reason="b", now=NOW)
    summary = catalog.summary()
    assert (summary.patients, summary.studies, summary.series, summary.total) == (0, 0, 0, Share("total"))
    assert catalog.find_studies(make_query("study", PatientName="doe")) == []
    assert catalog.backlog().count == 0


def test_deleting_what_is_not_there(catalog: Catalog) -> None:
    land(catalog, make_index(1, 1, 1), make_index(2, 1, 1))
    nothing = ({"study_uid": "9"}, {"series_uid": "9"}, {"sop_uid": "9"})
    crossed = {"study_uid": "1.2.3.1", "sop_uid": "1.2.3.2.1.1"}
    for uids in (*nothing, crossed):
        with pytest.raises(InstanceNotFound), catalog.writing() as tx:
            tx.delete(**uids, actor="a", reason="b", now=NOW)
    with pytest.raises(ValueError, match="name a study"), catalog.writing() as tx:
        tx.delete(actor="a", reason="b", now=NOW)
    assert len(list(catalog.all_instances())) == 2
    assert catalog.tombstone("1.2.3.1.1.1") is None


def test_deleted_instance_can_come_back(catalog: Catalog) -> None:
    index = make_index()
    [first] = land(catalog, index)
    with catalog.writing() as tx:
        tx.delete(sop_uid=index.sop_uid, actor="a", reason="b", now=NOW)
    [second] = land(catalog, index)
    assert second.instance_id > first.instance_id
    assert second.representation_id > first.representation_id
    assert second.series_id > first.series_id
    assert garbage(catalog) == []  # the same bytes are referred to again
    assert catalog.tombstone(index.sop_uid) is not None
    with catalog.writing() as tx:
        tx.delete(sop_uid=index.sop_uid, actor="c", reason="d", now=later(50))
    tombstone = catalog.tombstone(index.sop_uid)
    assert tombstone is not None
    assert (tombstone.actor, tombstone.deleted_at) == ("c", later(50))
    assert [one.sop_uid for one in catalog.changes()] == [index.sop_uid] * 4


def test_blob_of_two_instances_stays_while_one_is_left(catalog: Catalog) -> None:
    land(catalog, make_index(1, 1, 1), make_index(1, 1, 2))
    shared = make_blob("series pack", size_bytes=500)
    for work in claim(catalog):
        assert settle(catalog, work, blob=shared)
    with catalog.writing() as tx:
        tx.delete(sop_uid="1.2.3.1.1.1", actor="a", reason="b", now=NOW)
    assert shared not in garbage(catalog)
    assert [row.sop_uid for row in catalog.instances_in(shared.digest)] == ["1.2.3.1.1.2"]
    with catalog.writing() as tx:
        tx.delete(sop_uid="1.2.3.1.1.2", actor="a", reason="b", now=NOW)
    assert shared in garbage(catalog)


def test_garbage_is_listed_until_it_is_forgotten(catalog: Catalog) -> None:
    blobs = [make_blob(n) for n in range(5)]
    with catalog.writing() as tx:
        for n, blob in enumerate(blobs):
            tx.discard(blob, now=NOW, due_at=later(n))
    assert garbage(catalog, 2.5) == blobs[:3]
    assert garbage(catalog, 100, limit=2) == blobs[:2]
    with catalog.writing() as tx:
        tx.forget_garbage(blobs[:2])
        tx.forget_garbage([])
        tx.forget_garbage([make_blob("never heard of")])
    assert garbage(catalog, 100) == blobs[2:]
    assert sorted(ref.digest for ref in catalog.all_blob_refs()) == sorted(ref.digest for ref in blobs[2:])


def test_blob_that_is_referred_to_is_neither_collected_nor_forgotten(catalog: Catalog) -> None:
    index = make_index()
    land(catalog, index)
    blob = make_landing(index).blob
    with catalog.writing() as tx:
        tx.discard(blob, now=NOW, due_at=NOW)
        assert tx.collect_garbage(later(1), 10) == []
        tx.forget_garbage([blob])
    assert list(catalog.all_blob_refs()) == [blob]
    with catalog.writing() as tx:
        tx.delete(sop_uid=index.sop_uid, actor="a", reason="b", now=NOW)
    assert garbage(catalog) == [blob]


def test_equal_bytes_on_two_tiers_are_two_blobs(catalog: Catalog) -> None:
    hot = make_blob(1)
    cold = replace(hot, tier=Tier("cold"))
    with catalog.writing() as tx:
        tx.discard(hot, now=NOW, due_at=NOW)
        tx.discard(cold, now=NOW, due_at=NOW)
        tx.forget_garbage([hot])
    assert garbage(catalog) == [cold]


def test_unknown_blobs_are_those_that_nothing_ever_named(catalog: Catalog) -> None:
    landed, discarded, orphan = make_landing(make_index()).blob, make_blob("discarded"), make_blob("orphan")
    land(catalog, make_index())
    with catalog.writing() as tx:
        tx.discard(discarded, now=NOW, due_at=NOW)
    digests = [orphan.digest, landed.digest, discarded.digest]
    assert catalog.unknown_blobs(digests) == [orphan.digest]
    assert catalog.unknown_blobs([]) == []


# -- records


def test_quarantine_counts_attempts_at_the_same_bytes(catalog: Catalog) -> None:
    blob = make_blob("junk", size_bytes=77)
    facts = {"name": "a.dcm", "sender": "A", "door": "import", "now": later(1)}
    with catalog.writing() as tx:
        first = tx.quarantine(blob, reason="no DICOM", **facts)
        again = tx.quarantine(blob, reason="still no DICOM", **{**facts, "now": later(2)})
        other = tx.quarantine(make_blob("other"), reason="empty", **facts)
    assert first == again != other
    row, _ = catalog.quarantined()
    assert (row.id, row.blob, row.name, row.sender, row.door) == (first, blob, "a.dcm", "A", "import")
    assert (row.reason, row.received_at, row.attempts) == ("still no DICOM", later(1), 2)


def test_quarantined_blob_stays_until_it_is_released(catalog: Catalog) -> None:
    blob = make_blob("junk")
    with catalog.writing() as tx:
        key = tx.quarantine(blob, name="a", sender="", door="import", reason="?", now=NOW)
        tx.discard(blob, now=NOW, due_at=NOW)
    assert garbage(catalog) == []
    with catalog.writing() as tx:
        tx.release_quarantine(key, due_at=later(5))
    assert catalog.quarantined() == []
    assert garbage(catalog, 4) == []
    assert garbage(catalog, 5) == [blob]
    with pytest.raises(CatalogError), catalog.writing() as tx:
        tx.release_quarantine(key, due_at=NOW)


def test_released_blob_that_has_landed_stays(catalog: Catalog) -> None:
    index = make_index()
    blob = make_landing(index).blob
    with catalog.writing() as tx:
        key = tx.quarantine(blob, name="a", sender="", door="import", reason="?", now=NOW)
    with catalog.writing() as tx:
        tx.land(index, make_landing(index))
        tx.release_quarantine(key, due_at=NOW)
    assert garbage(catalog) == []


def test_dictionaries_are_added_and_never_changed(catalog: Catalog) -> None:
    rows = [
        DictionaryRow(40_001, "CT", 2, Digest.of(b"2"), 112_640, 900, later(2)),
        DictionaryRow(2**31 - 1, "*", 1, Digest.of(b"1"), 112_640, 300, later(1)),
        DictionaryRow(40_000, "CT", 1, Digest.of(b"3"), 112_640, 500, later(0)),
    ]
    with catalog.writing() as tx:
        for row in rows:
            tx.add_dictionary(row)
        tx.add_dictionary(replace(rows[0], scope="MR", digest=Digest.of(b"4")))
    assert catalog.dictionaries() == [rows[1], rows[2], rows[0]]


def test_change_feed_is_read_from_where_one_left_off(catalog: Catalog) -> None:
    land(catalog, *(make_index(1, 1, n) for n in range(5)))
    first = catalog.changes(limit=2)
    rest = catalog.changes(since=first[-1].sequence)
    assert [change.sop_uid for change in first + rest] == [f"1.2.3.1.1.{n}" for n in range(5)]
    sequences = [change.sequence for change in first + rest]
    assert sequences == sorted(set(sequences))
    assert catalog.changes(since=sequences[-1]) == []


def test_summary_by_modality_and_codec(catalog: Catalog) -> None:
    land(catalog, make_index(1, 1, 1, modality="CT"), make_index(1, 1, 2, modality="CT"), size_bytes=1000)
    land(catalog, make_index(2, 1, 1, modality="MR"), size_bytes=2000)
    land(catalog, make_index(3, 1, 1), size_bytes=3000)
    work = claim(catalog)
    settle(catalog, work[0])
    settle(catalog, work[2], codec="jpegls")
    summary = catalog.summary()
    assert summary.total == Share("total", 4, 5800, 4400, 200, 1200, 100, 140)
    assert summary.by_modality == (
        Share("", 1, 2700, 3000),
        Share("CT", 2, 1400, 1200, 100, 600, 50, 70),
        Share("MR", 1, 1700, 200, 100, 600, 50, 70),
    )
    assert summary.by_codec == (
        Share("jpegls", 1, 1700, 200, 100, 600, 50, 70),
        Share("jpegxl", 1, 700, 200, 100, 600, 50, 70),
        Share("landed", 2, 3400, 4000),
    )


# -- several writers


def test_writers_in_threads_lose_nothing_and_claim_nothing_twice(catalog: Catalog) -> None:
    failures: list[BaseException] = []
    claimed: list[int] = []

    def work(number: int) -> None:
        try:
            for n in range(15):
                land(catalog, make_index(n % 2, number, n, patient_id="A"))
                claimed.extend(one.instance.id for one in claim(catalog, f"settler {number}", limit_count=2))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    claimed.extend(one.instance.id for one in claim(catalog, limit_count=100))
    assert sorted(claimed) == [row.id for row in catalog.all_instances()]
    assert len(claimed) == 60
    assert sum(study.number_of_instances for study in catalog.find_studies(Query("study"))) == 60
