"""Searching, compared with a matcher that knows no SQL."""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from sqlalchemy import event

from leanpacs.catalog import AnyOf, Between, Catalog, Query, Universal, Wildcard, matchable, open_catalog
from leanpacs.dicom.attributes import LEVEL_ATTRIBUTES
from leanpacs.errors import InvalidQuery
from unit.catalog.recipes import land, make_index, make_query, numbers

TEXTS = [
    "",
    *("".join(letters) for n in (1, 2) for letters in itertools.product("aA%_[]é", repeat=n)),
    "a*",
    "^a",
]
NAMES = [
    "",
    "Doe",
    "DOE^JOHN",
    "Doe^Johnny^^^",
    "Doe^^Quentin",
    "Doeson^John",
    "O'Doe^Jo_n",
    "Müller^Jörg",
    "Mu\u0308ller^Jo\u0308rg",
    "Yamada^Tarou=山田^太郎=やまだ^たろう",
    "Yamada^Hanako=山田^花子",
    "=山田^太郎",
    "Ya%da^Tarou",
]
TIMES = ["", "10", "1030", "103000", "103000.5", "10:30:00", "1031", "235959.999999", "000000", "9", "noon"]
DATES = ["", "20240101", "20240102", "20240229", "20241231", "19991231"]


@pytest.fixture(scope="module")
def catalog() -> Iterator[Catalog]:
    held = open_catalog(":memory:")
    yield held
    held.close()


@pytest.fixture(scope="module")
def described() -> Iterator[Catalog]:
    held = open_catalog(":memory:")
    land(held, *(make_index(n, study_description=text) for n, text in enumerate(TEXTS)))
    yield held
    held.close()


@pytest.fixture(scope="module")
def named() -> Iterator[Catalog]:
    held = open_catalog(":memory:")
    land(held, *(make_index(n, patient_name=name, patient_id=str(n)) for n, name in enumerate(NAMES)))
    yield held
    held.close()


@pytest.fixture(scope="module")
def timed() -> Iterator[Catalog]:
    held = open_catalog(":memory:")
    moments = itertools.product(DATES, TIMES)
    land(held, *(make_index(n, study_date=day, study_time=time) for n, (day, time) in enumerate(moments)))
    yield held
    held.close()


def found(catalog: Catalog, **texts: str) -> list[int]:
    return numbers(catalog.find_studies(make_query("study", **texts)))


def pattern(text: str) -> re.Pattern[str]:
    """A regular expression for a wildcard key."""
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(character, re.escape(character)) for character in text), re.DOTALL)


@given(key=st.text(alphabet="aA%_[]é^*?", min_size=1, max_size=5))
def test_texts_match_exactly_but_for_wildcards(described: Catalog, key: str) -> None:
    expected = [n for n, text in enumerate(TEXTS) if not key.strip("*") or pattern(key).fullmatch(text)]
    assert found(described, StudyDescription=key) == expected


@given(keys=st.lists(st.sampled_from(TEXTS[1:]), min_size=1, max_size=4))
def test_one_of_several_values_is_enough(described: Catalog, keys: list[str]) -> None:
    assume(not any("*" in key for key in keys))
    expected = [n for n, text in enumerate(TEXTS) if text in keys]
    assert found(described, StudyDescription="\\".join(keys)) == expected


def folded(group: str) -> str:
    return unicodedata.normalize("NFC", re.sub(r"\^+$", "", group)).casefold()


def name_matches(key: str, name: str) -> bool:
    """Matching of person names, written again from the words of the documentation."""

    def group_matches(asked: str, held: str) -> bool:
        asked = re.sub(r"\*+", "*", folded(asked))
        return bool(held) and (
            bool(pattern(asked).fullmatch(held)) or (asked.endswith("^*") and group_matches(asked[:-2], held))
        )

    held = [folded(group) for group in (name + "==").split("=")[:3]]
    if "=" not in key:
        return any(group_matches(key, group) for group in held)
    asked = (key + "==").split("=")[:3]
    return all(not one.strip("^*") or group_matches(one, group) for one, group in zip(asked, held, strict=True))


@given(
    name=st.sampled_from(NAMES[1:]),
    changes=st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["", "*", "?", "^", "o", "O"])), max_size=3),
)
def test_names_match_by_group_whatever_their_case(named: Catalog, name: str, changes: list[tuple[int, str]]) -> None:
    key = name
    for at, text in changes:
        key = key[:at] + text + key[at + 1 :]
    groups = key.split("=")
    # A group of separators or wildcards only asks for nothing sensible.
    assume(all(group.strip("^*?") for group in groups if group) and key.strip("=") and len(groups) <= 3)
    expected = [n for n, held in enumerate(NAMES) if name_matches(key, held)]
    assert found(named, PatientName=key) == expected


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("doe^john", ["DOE^JOHN"]),
        ("Doe^*", ["Doe", "DOE^JOHN", "Doe^Johnny^^^", "Doe^^Quentin"]),
        ("山田*", ["Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada^Hanako=山田^花子", "=山田^太郎"]),
        ("Yamada*=*花*", ["Yamada^Hanako=山田^花子"]),
        ("*^john", ["DOE^JOHN", "Doeson^John"]),
        ("müller^jörg", ["Müller^Jörg", "Mu\u0308ller^Jo\u0308rg"]),
        ("muller^jorg", []),
        ("ya%*", ["Ya%da^Tarou"]),
        ('""', [""]),
        ("john", []),
    ],
)
def test_names_by_example(named: Catalog, key: str, names: list[str]) -> None:
    assert [NAMES[n] for n in found(named, PatientName=key)] == names


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("john doe", ["DOE^JOHN", "Doe^Johnny^^^", "Doeson^John"]),
        ("MULLER", ["Müller^Jörg", "Mu\u0308ller^Jo\u0308rg"]),
        ("tar 山", ["Yamada^Tarou=山田^太郎=やまだ^たろう"]),
        ("quen*^doe", ["Doe^^Quentin"]),
        ("oe", []),
    ],
)
def test_fuzzy_names_by_the_beginnings_of_words(named: Catalog, key: str, names: list[str]) -> None:
    query = make_query("study", PatientName=key)
    fuzzy = Query("study", query.filters, fuzzy=True)
    assert [NAMES[n] for n in numbers(named.find_studies(fuzzy))] == names


def test_fuzzy_name_without_a_word_is_refused(named: Catalog) -> None:
    with pytest.raises(InvalidQuery):
        named.find_studies(Query("study", {"PatientName": Wildcard(("^*,?",))}, fuzzy=True))


def microseconds(time: str, *, last: bool = False) -> int | None:
    """First or last microsecond of the day that a time of any precision stands for; None for no time."""
    digits = time.replace(":", "")
    match = re.fullmatch(r"(\d\d)(\d\d)?(\d\d)?(?:\.(\d{1,6}))?", digits)
    if match is None:
        return None
    fill = ("", "59", "59", "999999") if last else ("", "00", "00", "000000")
    hours, minutes, seconds = (int(match[n + 1] or fill[n]) for n in range(3))
    fraction = match[4] or ""
    fraction += fill[3][len(fraction) :]
    return ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int(fraction)


GOOD_TIMES = st.sampled_from([time for time in TIMES if microseconds(time) is not None])
GOOD_DATES = st.sampled_from(DATES[1:])


def in_hours(time: str, first: str, last: str) -> bool:
    at = microseconds(time)
    assert at is not None
    return (not first or (microseconds(first) or 0) <= at) and (not last or at <= (microseconds(last, last=True) or 0))


@given(first=GOOD_TIMES | st.just(""), last=GOOD_TIMES | st.just(""))
def test_ranges_of_times(timed: Catalog, first: str, last: str) -> None:
    assume(first or last)
    expected = [
        n
        for n, (_, time) in enumerate(itertools.product(DATES, TIMES))
        if microseconds(time) is not None and in_hours(time, first, last)
    ]
    held = list(itertools.product(DATES, TIMES))
    rows = [n for n in found(timed, StudyTime=f"{first}-{last}") if microseconds(held[n][1]) is not None]
    assert rows == expected


@given(time=GOOD_TIMES)
def test_single_time_stands_for_all_within_its_precision(timed: Catalog, time: str) -> None:
    held = list(itertools.product(DATES, TIMES))
    expected = [n for n, (_, at) in enumerate(held) if microseconds(at) is not None and in_hours(at, time, time)]
    assert [n for n in found(timed, StudyTime=time) if microseconds(held[n][1]) is not None] == expected


@given(first=GOOD_DATES | st.just(""), last=GOOD_DATES | st.just(""))
def test_ranges_of_dates(timed: Catalog, first: str, last: str) -> None:
    assume(first or last)
    expected = [
        n
        for n, (date, _) in enumerate(itertools.product(DATES, TIMES))
        if date and first <= date and (not last or date <= last)
    ]
    assert found(timed, StudyDate=f"{first}-{last}") == expected


@given(days=st.tuples(GOOD_DATES, GOOD_DATES), hours=st.tuples(GOOD_TIMES, GOOD_TIMES), combined=st.booleans())
def test_ranges_of_dates_and_times_together(
    timed: Catalog, days: tuple[str, str], hours: tuple[str, str], combined: bool
) -> None:
    texts = {"StudyDate": "-".join(days), "StudyTime": "-".join(hours)}
    query = Query("study", make_query("study", **texts).filters, combined_datetime=combined)

    def matches(date: str, time: str) -> bool:
        if not date:
            return False
        if not combined:
            return bool(time) and days[0] <= date <= days[1] and in_hours(time, *hours)
        at = date, microseconds(time) or 0
        return (days[0], microseconds(hours[0]) or 0) <= at <= (days[1], microseconds(hours[1], last=True) or 0)

    held = list(itertools.product(DATES, TIMES))
    sound = [n for n, (_, time) in enumerate(held) if time == "" or microseconds(time) is not None]
    expected = [n for n in sound if matches(*held[n])]
    assert [n for n in numbers(timed.find_studies(query)) if n in sound] == expected


def test_single_time_is_not_combined_with_a_range_of_dates(timed: Catalog) -> None:
    held = list(itertools.product(DATES, TIMES))
    rows = [held[n] for n in found(timed, StudyDate="20240101-20240102", StudyTime="1031")]
    assert rows == [("20240101", "1031"), ("20240102", "1031")]


def test_range_of_times_on_one_day(timed: Catalog) -> None:
    held = list(itertools.product(DATES, TIMES))
    rows = [held[n] for n in found(timed, StudyDate="20240101", StudyTime="1031-")]
    assert rows == [("20240101", "1031"), ("20240101", "235959.999999")] + [
        ("20240101", time)
        for time in ("9", "noon")  # no times: they sort behind all that are
    ]


@pytest.fixture(scope="module")
def mixed() -> Iterator[Catalog]:
    held = open_catalog(":memory:")
    land(
        held,
        make_index(1, 1, 1, modality="CT", series_number=3, image_type="ORIGINAL\\PRIMARY", rows=512),
        make_index(1, 1, 2, modality="CT", series_number=3, image_type="DERIVED\\PRIMARY", rows=256),
        make_index(1, 2, 1, modality="SR", series_number=4, sop_class="1.2.840.10008.5.1.4.1.1.88.11"),
        make_index(2, 1, 1, modality="MR", series_number=3, image_type="ORIGINAL", number_of_frames=7),
        make_index(3, 1, 1, modality=""),
    )
    yield held
    held.close()


@pytest.mark.parametrize(
    ("keyword", "text", "studies"),
    [
        ("ModalitiesInStudy", "SR", [1]),
        ("ModalitiesInStudy", "?R", [1, 2]),
        ("ModalitiesInStudy", "MR\\CT", [1, 2]),
        ("ModalitiesInStudy", "ct", []),
        ("ModalitiesInStudy", '""', [3]),
        ("SOPClassesInStudy", "1.2.840.10008.5.1.4.1.1.88.11", [1]),
        ("SOPClassesInStudy", "1.2.840.10008.5.1.4.1.1.2", [1, 2, 3]),
        ("StudyInstanceUID", "1.2.3.3\\1.2.3.1\\1.9", [1, 3]),
        ("StudyInstanceUID", "*", [1, 2, 3]),
        ("StudyInstanceUID", "1.2.3", []),
    ],
)
def test_studies(mixed: Catalog, keyword: str, text: str, studies: list[int]) -> None:
    assert found(mixed, **{keyword: text}) == studies


@pytest.mark.parametrize(
    ("texts", "uids"),
    [
        ({"SeriesNumber": "3"}, ["1.2.3.1.1", "1.2.3.2.1"]),
        ({"SeriesNumber": "3\\4", "Modality": "SR"}, ["1.2.3.1.2"]),
        ({"SeriesNumber": '""'}, ["1.2.3.3.1"]),
        ({"StudyInstanceUID": "1.2.3.1"}, ["1.2.3.1.1", "1.2.3.1.2"]),
        ({"ModalitiesInStudy": "SR"}, ["1.2.3.1.1", "1.2.3.1.2"]),
        ({"SeriesInstanceUID": "1.2.3.2.1"}, ["1.2.3.2.1"]),
    ],
)
def test_series(mixed: Catalog, texts: dict[str, str], uids: list[str]) -> None:
    rows = mixed.find_series(make_query("series", **texts))
    assert [row.series_uid for row in rows] == uids
    assert all(row.series_uid.startswith(row.study_uid) for row in rows)
    assert [row.number_of_instances for row in rows] == [2 if uid == "1.2.3.1.1" else 1 for uid in uids]


@pytest.mark.parametrize(
    ("texts", "uids"),
    [
        ({"ImageType": "ORIGINAL"}, ["1.2.3.1.1.1", "1.2.3.2.1.1"]),
        ({"ImageType": "PRIM*"}, ["1.2.3.1.1.1", "1.2.3.1.1.2"]),
        ({"ImageType": "RIGINAL"}, []),
        ({"ImageType": '""'}, ["1.2.3.1.2.1", "1.2.3.3.1.1"]),
        ({"Rows": "512\\256"}, ["1.2.3.1.1.1", "1.2.3.1.1.2"]),
        ({"NumberOfFrames": "7"}, ["1.2.3.2.1.1"]),
        ({"SOPInstanceUID": "1.2.3.1.1.2"}, ["1.2.3.1.1.2"]),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.11"}, ["1.2.3.1.2.1"]),
        ({"Modality": "CT", "Rows": "256"}, ["1.2.3.1.1.2"]),
    ],
)
def test_instances(mixed: Catalog, texts: dict[str, str], uids: list[str]) -> None:
    assert [row.held.sop_uid for row in mixed.find_instances(make_query("instance", **texts))] == uids


@pytest.mark.parametrize("level", ["study", "series", "instance"])
@pytest.mark.parametrize("match", [Universal(), AnyOf(("1",)), Wildcard(("1*",)), Between("1", "2")])
def test_every_key_is_matched_or_refused(mixed: Catalog, level: Any, match: Any) -> None:
    for attribute in LEVEL_ATTRIBUTES:
        query = Query(level, {attribute.keyword: match})
        search = {"study": mixed.find_studies, "series": mixed.find_series, "instance": mixed.find_instances}
        if attribute.keyword not in matchable(level):
            with pytest.raises(InvalidQuery):
                search[level](query)
            continue
        try:
            rows = search[level](query)
        except InvalidQuery:
            assert match != Universal()
        else:
            assert len(rows) == {"study": 3, "series": 4, "instance": 5}[level] or match != Universal()


@pytest.mark.parametrize(
    ("level", "keyword", "match"),
    [
        ("study", "Modality", AnyOf(("CT",))),
        ("study", "NoSuchThing", Universal()),
        ("series", "NumberOfSeriesRelatedInstances", AnyOf(("1",))),
        ("study", "StudyDescription", Between("a", "b")),
        ("series", "SeriesNumber", Wildcard(("1*",))),
    ],
)
def test_keys_that_cannot_be_matched(mixed: Catalog, level: Any, keyword: str, match: Any) -> None:
    with pytest.raises(InvalidQuery) as caught:
        mixed.find_series(Query(level, {keyword: match}))
    assert caught.value.keyword == keyword


@pytest.mark.parametrize(("limit", "offset"), [(-1, 0), (2**63, 0), (None, -1)])
def test_pages_that_cannot_be(limit: int | None, offset: int) -> None:
    with pytest.raises(InvalidQuery):
        Query("study", limit=limit, offset=offset)


def test_level_that_cannot_be_searched(mixed: Catalog) -> None:
    with pytest.raises(InvalidQuery):
        mixed.find_studies(Query("frame"))  # type: ignore[arg-type]


def test_patients_with_what_is_held_of_them() -> None:
    held = open_catalog(":memory:")
    anonymous = make_index(9, patient_name="Doe^Jane")
    first = [make_index(1, n, m, patient_id="P1", patient_name="Doe^John") for n in (1, 2) for m in (1, 2, 3)]
    land(held, *first, make_index(2, patient_id="P1"), make_index(3, patient_id="P2", patient_name="Roe"), anonymous)
    found = held.find_patients(make_query("patient", PatientName="doe*"))
    assert [(row.patient.patient_id, row.patient.patient_name) for row in found] == [("P1", "Doe^John")]
    assert (found[0].number_of_studies, found[0].number_of_series, found[0].number_of_instances) == (2, 3, 7)
    assert [row.patient.patient_id for row in held.find_patients(Query("patient"))] == ["P1", "P2"]
    assert [row.patient.patient_id for row in held.find_patients(Query("patient", limit=1, offset=1))] == ["P2"]
    held.close()


@pytest.mark.parametrize(
    ("level", "texts", "indexes"),
    [
        ("study", {"StudyInstanceUID": "1.2.3.1"}, {"studies"}),
        ("series", {"StudyInstanceUID": "1.2.3.1"}, {"studies", "series"}),
        ("instance", {"StudyInstanceUID": "1.2.3.1"}, {"studies", "series", "instances"}),
        ("instance", {"SOPInstanceUID": "1.2.3.1.1.1"}, {"studies", "series", "instances"}),
        ("instance", {"SeriesInstanceUID": "1.2.3.1.1"}, {"studies", "series", "instances"}),
        ("study", {"PatientID": "7"}, {"studies"}),
        ("study", {"AccessionNumber": "7"}, {"studies"}),
        ("study", {"StudyDate": "20240101-20240102", "StudyTime": "10-"}, {"studies"}),
        ("study", {"PatientName": "Doe^John"}, {"studies", "person_names"}),
    ],
)
def test_no_search_by_key_reads_a_whole_table(
    mixed: Catalog, level: Any, texts: dict[str, str], indexes: set[str]
) -> None:
    searched: list[tuple[str, Any]] = []

    def note(connection: Any, cursor: Any, statement: str, parameters: Any, *rest: Any) -> None:
        if statement.startswith("SELECT"):
            searched.append((statement, parameters))

    search = {"study": mixed.find_studies, "series": mixed.find_series, "instance": mixed.find_instances}
    event.listen(mixed._database._engine, "before_cursor_execute", note)
    try:
        search[level](make_query(level, **texts))
    finally:
        event.remove(mixed._database._engine, "before_cursor_execute", note)
    with mixed._database.reading() as connection:
        plan = [row[-1] for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {searched[0][0]}", searched[0][1])]
    assert {line.split()[1] for line in plan if line.startswith("SEARCH")} == indexes, plan
    assert not [line for line in plan if line.startswith("SCAN")], plan
