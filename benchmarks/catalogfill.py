"""A generated catalog on PostgreSQL: as many instances as asked for, in the tables that the archive itself uses.

A study has 4 series, of 25 instances where nothing else is asked for, a patient 2 studies; dates run over ten years in
the order of arrival; names come from a pool of 20,000; the last of every thousand instances has only landed. The server
makes the rows itself, so that ten million take minutes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from sqlalchemy import Connection, create_engine, text

from leanpacs.catalog import FrameTable, Span, open_catalog
from leanpacs.catalog.names import parts

SERIES_EACH: Final = 4
INSTANCES_EACH: Final = 25
STUDY_INSTANCES: Final = SERIES_EACH * INSTANCES_EACH
FIRST_DAY: Final = "2015-01-01"
DAYS: Final = 3650
MODALITIES: Final = ("CT", "MR", "CR", "US", "DX", "MG", "NM", "PT")
"""The last ones are rare: one study in 1,000 each."""
UID: Final = "1.2.826.0.1.3680043.10.511"
_AT_ONCE: Final = 200_000
"""Instances that are made in one transaction."""

_SURNAMES: Final = [
    f"{a}{b}"
    for a in ("Ber", "Mül", "San", "Ivan", "Wang", "Ols", "Gar", "Nak", "Kow", "Ngu")
    for b in (
        "ger",
        "ler",
        "chez",
        "ov",
        "son",
        "cia",
        "amura",
        "alski",
        "yen",
        "mann",
        "otti",
        "ic",
        "ez",
        "as",
        "o",
        "sen",
        "skaya",
        "ier",
        "dottir",
        "li",
    )
]
_GIVEN: Final = [
    f"{a}{b}"
    for a in ("An", "Jo", "Ma", "El", "Pe", "Li", "Ka", "To", "Sa", "Re")
    for b in ("na", "hn", "ria", "isa", "ter", "nda", "rl", "mas", "ra", "né")
]

_POOL: Final = """
CREATE UNLOGGED TABLE pool AS
SELECT (row_number() OVER ()) - 1 AS number, name FROM unnest(CAST(:names AS text[])) AS name
"""
_FOLDED: Final = """
CREATE UNLOGGED TABLE pool_parts AS
SELECT * FROM unnest(CAST(:number AS bigint[]), CAST(:part AS int[]), CAST(:folded AS text[]))
    AS x(number, part, folded)
"""
_PATIENTS: Final = """
INSERT INTO patients (id, patient_id, issuer_of_patient_id, patient_name, patient_birth_date, patient_sex)
SELECT n, 'PID' || lpad(n::text, 9, '0'), '', name, to_char(date '1930-01-01' + (n * 37 % 30000)::int, 'YYYYMMDD'),
       CASE n % 2 WHEN 0 THEN 'F' ELSE 'M' END
FROM generate_series(CAST(:first AS bigint), :last) AS n JOIN pool ON pool.number = (n * 7919) % :names
"""
_STUDIES: Final = """
INSERT INTO studies (id, patient_key, study_uid, patient_id, patient_name, patient_birth_date, patient_sex, study_date,
                     study_time, accession_number, study_id, study_description, referring_physician_name, received_at)
SELECT n, p.id, :uid || '.' || n, p.patient_id, p.patient_name, p.patient_birth_date, p.patient_sex,
       to_char(day, 'YYYYMMDD'), to_char((n * 131 % 86400) * interval '1 second', 'HH24MISS'),
       'A' || lpad(n::text, 10, '0'), (n % 100000)::text,
       (ARRAY['HEAD', 'CHEST', 'ABDOMEN', 'KNEE', 'SPINE', 'PELVIS', 'NECK', 'HAND'])[n % 8 + 1]
           || ' ROUTINE ' || n % 50,
       'Referrer^' || n % 300, (extract(epoch FROM day) * 1000000)::bigint
FROM generate_series(CAST(:first AS bigint), :last) AS n
JOIN patients p ON p.id = (n + 1) / 2
CROSS JOIN LATERAL (SELECT date '2015-01-01' + (n * 3650 / :studies)::int AS day) AS d
"""
_NAMES: Final = """
INSERT INTO person_names (attribute, part, folded, study_key)
SELECT 'patient_name', f.part, f.folded, n
FROM generate_series(CAST(:first AS bigint), :last) AS n
JOIN pool_parts f ON f.number = (((n + 1) / 2) * 7919) % :names
ON CONFLICT DO NOTHING
"""
_SERIES: Final = """
INSERT INTO series (id, study_key, series_uid, modality, series_number, series_description, body_part_examined,
                    manufacturer, station_name, institution_name, received_at)
SELECT (s - 1) * 4 + k, s, :uid || '.' || s || '.' || k,
       CASE WHEN s % 1000 = 1 THEN 'PT' WHEN s % 1000 = 2 THEN 'NM'
            ELSE (ARRAY['CT', 'CT', 'CT', 'MR', 'MR', 'CR', 'US', 'DX', 'MG'])[s % 9 + 1] END,
       k, 'SERIES ' || k, 'CHEST', 'ACME', 'STATION' || s % 40, 'HOSPITAL ' || s % 5, st.received_at
FROM generate_series(CAST(:first AS bigint), :last) AS s
CROSS JOIN generate_series(1, 4) AS k JOIN studies st ON st.id = s
"""
_INSTANCES: Final = """
INSERT INTO instances (id, series_key, sop_uid, sop_class, instance_number, rows, columns, bits_allocated,
                       number_of_frames, image_type, photometric_interpretation, transfer_syntax, data_set_length,
                       data_set_digest, sender, door, received_at)
SELECT (r.id - 1) * CAST(:each AS bigint) + k, r.id, r.series_uid || '.' || k,
       '1.2.840.10008.5.1.4.1.1.2', k, 512, 512, 16, 1,
       'ORIGINAL\\PRIMARY\\AXIAL', 'MONOCHROME2', '1.2.840.10008.1.2.1', 527000,
       sha256(('d' || r.id || '.' || k)::bytea),
       'SCANNER' || r.id % 40, 'dimse', r.received_at + k
FROM series r CROSS JOIN generate_series(1, CAST(:each AS bigint)) AS k
WHERE r.id BETWEEN (CAST(:first AS bigint) - 1) * 4 + 1 AND CAST(:last AS bigint) * 4
"""
_BLOBS: Final = """
INSERT INTO blobs (id, digest, tier, size_bytes, created_at)
SELECT i.id, sha256(('b' || i.id)::bytea), 'hot', 130000 + i.id % 50000, i.received_at
FROM instances i WHERE i.id BETWEEN (CAST(:first AS bigint) - 1) * :of_study + 1 AND CAST(:last AS bigint) * :of_study
"""
_FORMS: Final = """
INSERT INTO representations (id, instance_key, blob_key, kind, form, fidelity, codec, effort, precision, size_bytes,
    preface_length, head_offset, head_length, tail_offset, tail_length, frames_index, raw_head_bytes, raw_frame_bytes,
    stored_head_bytes, stored_frame_bytes, evidence_data_set_digest, evidence_samples_digest, evidence_verified_at,
    evidence_library, evidence_decoder, evidence_seconds, evidence_preset, evidence_encode_seconds, created_at)
SELECT b.id, b.id, b.id, CASE WHEN b.id % 1000 = 0 THEN 'landed' ELSE 'pack' END,
       CASE WHEN b.id % 1000 = 0 THEN 'received' ELSE 'frames' END, 'bytes',
       CASE WHEN b.id % 1000 = 0 THEN '' ELSE 'jpegxl' END, 1, 16, b.size_bytes,
       0, 34, 1800, 130000, 60, :frames, 2700, 524288, 1860, b.size_bytes - 2000,
       sha256(('d' || b.id)::bytea), sha256(('s' || b.id)::bytea), b.created_at, 'imagecodecs 2026.3.6', 'leanpacs',
       0.02, 'fast', 0.01, b.created_at
FROM blobs b WHERE b.id BETWEEN (CAST(:first AS bigint) - 1) * :of_study + 1 AND CAST(:last AS bigint) * :of_study
"""
_CHANGES: Final = """
INSERT INTO changes (sequence, at, action, instance_key)
SELECT i.id, i.received_at, 'landed', i.id
FROM instances i WHERE i.id BETWEEN (CAST(:first AS bigint) - 1) * :of_study + 1 AND CAST(:last AS bigint) * :of_study
"""
_NUMBERED: Final = {
    "patients": "id",
    "studies": "id",
    "series": "id",
    "instances": "id",
    "blobs": "id",
    "representations": "id",
    "changes": "sequence",
}


def names() -> list[str]:
    """The pool of patient names."""
    return [f"{surname}^{given}" for surname in _SURNAMES for given in _GIVEN]


def fill(url: str, instances: int, report: Callable[[int], None], each: int = INSTANCES_EACH) -> None:
    """Make tables and rows in an empty database, so many instances to a series.

    ``report`` is told the instances made so far.
    """
    open_catalog(url).close()
    of_study = SERIES_EACH * each
    studies = max(2, instances // of_study)
    at_once = max(1, _AT_ONCE // of_study)
    engine = create_engine(url)
    pool = names()
    with engine.begin() as connection:
        _make_pool(connection, pool)
        trusted = connection.scalar(text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"))
        connection.execute(text(_PATIENTS), {"first": 1, "last": (studies + 1) // 2, "names": len(pool)})
    facts = {
        "uid": UID,
        "studies": studies,
        "names": len(pool),
        "frames": FrameTable.of([Span(1900, 128_000)]).data,
        "each": each,
        "of_study": of_study,
    }
    for first in range(1, studies + 1, at_once):
        last = min(studies, first + at_once - 1)
        with engine.begin() as connection:
            connection.execute(text("SET LOCAL synchronous_commit = off"))
            if trusted:  # what refers to what is right by construction
                connection.execute(text("SET LOCAL session_replication_role = replica"))
            for statement in (_STUDIES, _NAMES, _SERIES, _INSTANCES, _BLOBS, _FORMS, _CHANGES):
                wanted = {name: value for name, value in facts.items() if f":{name}" in statement}
                connection.execute(text(statement), {"first": first, "last": last, **wanted})
        report(last * of_study)
    with engine.begin() as connection:
        for table, key in _NUMBERED.items():
            highest = f"(SELECT max({key}) FROM {table})"
            connection.execute(text(f"SELECT setval(pg_get_serial_sequence('{table}', '{key}'), {highest})"))
        connection.execute(text("DROP TABLE pool, pool_parts"))
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM (ANALYZE)"))
    engine.dispose()


def _make_pool(connection: Connection, pool: list[str]) -> None:
    connection.execute(text(_POOL), {"names": pool})
    folded = [(number, part, one) for number, name in enumerate(pool) for part, one in sorted(parts(name))]
    columns = {"number": [row[0] for row in folded], "part": [row[1] for row in folded]}
    connection.execute(text(_FOLDED), {**columns, "folded": [row[2] for row in folded]})
