"""Files that users write: amounts, checks, and errors that name the fault."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from leanpacs.errors import ConfigError
from leanpacs.report import examples
from leanpacs.report.policies import Policy
from leanpacs.report.prices import Prices
from leanpacs.report.quantities import parse_toml, read_toml, shipped_names, shipped_text
from leanpacs.report.ratios import Ratios
from leanpacs.report.workload import Workload

WORKLOAD = """
name = "mine"
[modality.CT]
studies_per_day = 10
bytes_per_study = "250 MB"
[[reads]]
until_days = 3
reads_per_study_per_day = 1
[sites.north]
link = "5 Mbps"
share_of_reads = 0.5
"""


def faults(kind: type[Workload | Policy | Prices | Ratios], text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_toml(kind, text, "mine.toml")
    return str(caught.value)


def test_amounts_are_read_with_units() -> None:
    found = parse_toml(Workload, WORKLOAD, "mine.toml")
    assert found.modality["CT"].bytes_per_study == 250e6
    assert found.sites["north"].link == 5e6
    assert found.studies_per_year == 3650
    assert found.bytes_per_year == pytest.approx(3650 * 250e6)


@pytest.mark.parametrize(
    ("written", "expected"),
    [("250 MB", 250e6), ("1.5GB", 1.5e9), ("2_000 kb", 2e6), ("12", 12), ("0 bytes", 0)],
)
def test_bytes(written: str, expected: float) -> None:
    text = WORKLOAD.replace("250 MB", written)
    assert parse_toml(Workload, text, "mine.toml").modality["CT"].bytes_per_study == expected


@pytest.mark.parametrize("written", ["250 MiB", "many", "-3 MB", "", "1,5 GB", "MB"])
def test_what_is_no_amount_of_bytes(written: str) -> None:
    assert "modality.CT.bytes_per_study: write an amount such as" in faults(
        Workload, WORKLOAD.replace("250 MB", written)
    )


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (("studies_per_day", "studies_a_day"), "modality.CT.studies_a_day: no such key here"),
        (("studies_per_day = 10", "studies_per_day = -1"), "modality.CT.studies_per_day: "),
        (("studies_per_day = 10", "studies_per_day = inf"), "modality.CT.studies_per_day: "),
        (('"5 Mbps"', '"5 MB"'), "sites.north.link: write an amount such as"),
        (('"5 Mbps"', "true"), "sites.north.link: write an amount such as"),
        (("share_of_reads = 0.5", "share_of_reads = 1.5"), "sites.north.share_of_reads: "),
        (('name = "mine"', ""), "name: Field required"),
        (("[modality.CT]", "[modality.CT"), "is not TOML"),
    ],
)
def test_faults_are_named(change: tuple[str, str], complaint: str) -> None:
    assert complaint in faults(Workload, WORKLOAD.replace(*change))


def test_all_faults_are_told_at_once() -> None:
    text = WORKLOAD.replace("studies_per_day = 10", "studies_per_day = -1").replace("5 Mbps", "fast")
    assert faults(Workload, text).count("\n") == 2


@pytest.mark.parametrize(
    ("more", "complaint"),
    [
        ('[sites.south]\nlink="1 Mbps"\nshare_of_reads=0.6', "share_of_reads of all sites together is 1.1"),
        ("[[reads]]\nuntil_days=2\nreads_per_study_per_day=1", "until_days must grow"),
        (
            "[[reads]]\nreads_per_study_per_day=1\n[[reads]]\nuntil_days=9\nreads_per_study_per_day=1",
            "only the last entry may leave out until_days",
        ),
    ],
)
def test_what_contradicts_itself(more: str, complaint: str) -> None:
    assert complaint in faults(Workload, WORKLOAD + more)


@pytest.mark.parametrize(
    ("stages", "complaint"),
    [
        ('[[representations]]\npreset="raw"\nafter_days=3', "the first one begins at once"),
        ('[[representations]]\npreset="raw"\n[[representations]]\npreset="zlib"', "needs after_days or unread_days"),
        (
            '[[representations]]\npreset="raw"\n[[representations]]\npreset="zlib"\nafter_days=9\n'
            '[[representations]]\npreset="fast"\nafter_days=8',
            "may not shrink",
        ),
        (
            '[[representations]]\npreset="raw"\n[[representations]]\npreset="zlib"\nafter_days=9\nunread_days=3\n'
            '[[representations]]\npreset="fast"\nafter_days=10',
            "who says unread_days once",
        ),
        ('[[representations]]\npreset="raw"\ntier="lukewarm"', "'lukewarm' is not among the tiers hot"),
        ('[[representations]]\npreset="raw"\nalso_on=["cold"]', "'cold' is not among the tiers hot"),
        ("representations = []", "representations: "),
    ],
)
def test_policies_that_cannot_be(stages: str, complaint: str) -> None:
    assert complaint in faults(Policy, 'name = "mine"\n' + stages)


def test_bands_of_prices_must_grow_and_end_open() -> None:
    text = shipped_text("prices.toml")
    assert "bands need growing" in faults(Prices, text.replace("up_to_tb = 500", "up_to_tb = 50"))
    assert "bands need growing" in faults(
        Prices, text.replace("{ per_gb = 0.021 }", "{ up_to_tb = 900, per_gb = 0.021 }")
    )


def test_every_price_that_comes_along_has_a_source_and_a_date() -> None:
    prices = examples.prices()
    for entry in (*prices.storage.values(), *prices.core.values(), *prices.egress.values()):
        assert entry.source.startswith("https://")
        assert entry.date.startswith("20")


def test_ratios_need_a_row_for_the_rest_and_have_raw() -> None:
    text = 'title="t"\nsource="s"\ndate="d"\n[modality.CT]\nfast = { ratio = 0.3 }'
    assert "modality.other is missing" in faults(Ratios, text)
    found = parse_toml(Ratios, text.replace("CT", "other"), "mine.toml")
    assert found.of("CT", "raw").ratio == 1
    assert found.of("CT", "fast").ratio == 0.3
    assert not found.is_measured("CT", "fast")


def test_ratios_that_come_along_are_ordered_as_presets_are() -> None:
    ratios = examples.ratios()
    for modality in ratios.modality:
        fast, balanced, dense = (ratios.of(modality, preset).ratio for preset in ("fast", "balanced", "dense"))
        assert 0 < dense <= balanced <= fast < 1
        assert dense <= ratios.of(modality, "zlib").ratio
    # Not of each modality: drawn pictures (OT), where whole rows repeat, are smaller in zlib than in what is quick.
    assert ratios.of("other", "fast").ratio <= ratios.of("other", "zlib").ratio


@pytest.mark.parametrize("folder", ["workloads", "policies"])
def test_what_comes_along_can_be_shown_and_read_again(folder: str, tmp_path: Path) -> None:
    kind = Workload if folder == "workloads" else Policy
    for name in shipped_names(folder):
        file = tmp_path / f"{name}.toml"
        file.write_text(examples.text(name), encoding="utf-8")
        assert read_toml(kind, file) == parse_toml(kind, shipped_text(f"{folder}/{name}.toml"), name)
        assert tomllib.loads(examples.text(name))["name"]


def test_names_and_files_that_are_not_there(tmp_path: Path) -> None:
    for call in (examples.policy, examples.example, examples.text):
        with pytest.raises(ConfigError, match=r"there (are|is)|no such file"):
            call("nowhere")
    with pytest.raises(ConfigError, match="cannot be read"):
        examples.prices(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'currency = "\xa3"')
    with pytest.raises(ConfigError, match="cannot be read"):
        examples.prices(tmp_path / "latin.toml")
