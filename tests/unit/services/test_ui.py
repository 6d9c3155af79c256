from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from leanpacs.catalog import Backlog, Share, Summary
from leanpacs.services.figures import Figures, gauges
from leanpacs.services.http import HttpOptions
from leanpacs.services.ui.view import ago, number, ratio, size, view
from unit.services.dicomweb_fakes import NOON, Client, FakeArchive, study_row


@pytest.fixture
def archive(tmp_path: Path) -> FakeArchive:
    archive = FakeArchive(tmp_path)
    archive.catalog.found = [study_row()]
    return archive


class _Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "link"):
            self.open.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        assert "style" not in dict(attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_tells_what_is_held(archive: FakeArchive) -> None:
    response = Client(archive, HttpOptions(dimse_address="127.0.0.1:11112", ae_title="LEAN")).request("GET", "/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    for text in ("30.0\u2009%", "2.50 MB", "750 kB", "CT", "jpegxl", "Doe, Jane", "2024-02-29", "Thorax"):
        assert text in response.text, text
    assert "LEAN@127.0.0.1:11112" in response.text
    assert "http://archive.test/dicom-web" in response.text


def test_page_is_well_formed_and_needs_nothing_else(archive: FakeArchive) -> None:
    page = _Page(Client(archive).request("GET", "/").text)
    assert page.open == []
    assert set(page.addresses) <= {"data:,", "/metrics"}


def test_policy_allows_the_style_sheet_of_the_page_alone(archive: FakeArchive) -> None:
    response = Client(archive).request("GET", "/")
    style = re.search(r"<style>(.*?)</style>", response.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policy = response.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "<script" not in response.text.lower()


def test_what_senders_write_is_text(archive: FakeArchive) -> None:
    row = study_row()
    patient = replace(row.patient, patient_name="<script>alert(1)</script>")
    archive.catalog.found = [replace(row, patient=patient)]
    text = Client(archive).request("GET", "/").text
    assert "<script>" not in text
    assert "&lt;script&gt;" in text


def test_empty_archive_has_a_page(archive: FakeArchive) -> None:
    archive.catalog.found = []
    archive.summary = Summary(0, 0, 0, Share(""), (), ())
    text = Client(archive).request("GET", "/").text
    assert "Empty" in text
    assert "Nothing yet" in text


def test_quarantine_is_pointed_out(archive: FakeArchive) -> None:
    assert "quarantine list" not in Client(archive).request("GET", "/").text
    archive.quarantined = 1
    assert "file is in quarantine" in " ".join(
        Client(archive).request("GET", "/").text.replace("</strong>", "").split()
    )


def test_many_kinds_are_summed_up(archive: FakeArchive) -> None:
    shares = tuple(Share(f"K{n:02}", 1, 1000 - n, 500) for n in range(30))
    archive.summary = replace(archive.summary, by_modality=shares)
    bars = view(archive.status(), []).by_modality
    assert len(bars) == 16
    assert bars[-1].name == "15 others"
    assert bars[-1].instances == "15"
    assert max(bar.raw_length for bar in bars) == 100


def test_bars_are_drawn_to_scale(archive: FakeArchive) -> None:
    ct, mr = view(archive.status(), []).by_modality
    assert (ct.raw_length, ct.stored_length) == (100, 30)
    assert (mr.raw_length, mr.stored_length) == (25, 7.5)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 bytes"),
        (999, "999 bytes"),
        (1000, "1.00 kB"),
        (12_345, "12.3 kB"),
        (999_600, "1.00 MB"),
        (10**15, "1.00 PB"),
    ],
)
def test_sizes(size_bytes: int, text: str) -> None:
    assert size(size_bytes) == text


def test_numbers_and_shares() -> None:
    assert number(1_234_567) == "1\u2009234\u2009567"
    assert ratio(1, 3) == "33.3\u2009%"
    assert ratio(1, 0) == ""


def test_ages() -> None:
    ages = [ago(NOON, NOON + timedelta(seconds=s)) for s in (-1, 59, 600, 10_000, 400_000)]
    assert ages == ["0\u2009s ago", "59\u2009s ago", "10\u2009min ago", "2\u2009h ago", "4 days ago"]


def test_figures_are_collected_once_for_many(archive: FakeArchive) -> None:
    calls = []

    def collect():
        calls.append(1)
        return archive.status()

    figures = Figures(collect, lifetime_seconds=1000)
    assert figures.status() is figures.status()
    assert len(calls) == 1
    hasty = Figures(collect, lifetime_seconds=0)
    hasty.status()
    assert len(calls) == 2


def test_gauges_name_each_value_once(archive: FakeArchive) -> None:
    found = list(gauges(replace(archive.status(), backlog=Backlog(1, 2, NOON)), NOON + timedelta(seconds=9)))
    names = [(gauge.name, *gauge.labels.items()) for gauge in found]
    assert len(names) == len(set(names))
    assert next(gauge.value for gauge in found if gauge.name == "backlog_age_seconds") == 9
