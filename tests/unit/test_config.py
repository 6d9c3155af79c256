"""Settings: the order of their sources, and that nothing wrong passes in silence."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pydantic import BaseModel, ValidationError

from leanpacs.config import DuplicatePolicy, ForwardRule, Settings
from leanpacs.config.loading import load_settings
from leanpacs.config.reference import REPEATED, reference_page
from leanpacs.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "leanpacs.toml"
    path.write_text('[http]\nport = 1\nhost = "file"\n[dimse]\nport = 1\n[ingest]\nduplicates = "keep"\n')
    return path


def test_defaults_listen_on_this_machine_only() -> None:
    settings = load_settings()
    assert (settings.dimse.host, settings.dimse.port, settings.dimse.ae_title) == (
        "127.0.0.1",
        11112,
        "LEANPACS",
    )
    assert (settings.http.host, settings.http.port) == ("127.0.0.1", 8080)
    assert settings.ingest.duplicates is DuplicatePolicy.REFUSE


def test_flags_over_environment_over_file_over_defaults(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANPACS_HTTP__PORT", "2")
    monkeypatch.setenv("LEANPACS_DIMSE__PORT", "2")
    settings = load_settings(file=file, flags={"dimse": {"port": 3, "host": None}})
    assert settings.dimse.port == 3
    assert settings.http.port == 2
    assert settings.http.host == "file"
    assert settings.dimse.host == "127.0.0.1"
    assert settings.ingest.duplicates is DuplicatePolicy.KEEP


def test_constructor_reads_no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANPACS_HTTP__PORT", "2")
    assert Settings().http.port == 8080


def test_lists_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANPACS_DIMSE__ALLOWED_CALLING", '["CT1", " MR1 "]')
    assert load_settings().dimse.allowed_calling == ("CT1", "MR1")


def test_a_list_of_tables_in_the_environment_is_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANPACS_FORWARD", '[{"to": ["A"], "modality": ["M?"]}]')
    assert load_settings().forward == (ForwardRule(to=("A",), modality=("M?",)),)


def test_bad_json_in_the_environment_is_a_config_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANPACS_DIMSE__ALLOWED_CALLING", "[CT1")
    with pytest.raises(ConfigError):
        load_settings()


def test_all_faults_are_told_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "leanpacs.toml"
    file.write_text('[http]\nprot = 1\n[colour]\nred = 1\n[log]\nlevel = "loud"\n')
    monkeypatch.setenv("LEANPACS_DIMSE__PORT", "70000")
    monkeypatch.setenv("LEANPACS_HTPP__PORT", "1")
    with pytest.raises(ConfigError) as caught:
        load_settings(file=file)
    lines = str(caught.value).splitlines()
    assert len(lines) == 5
    for key in ("LEANPACS_HTPP__PORT", "http.prot", "colour", "log.level", "dimse.port"):
        assert sum(line.startswith(f"{key} = ") for line in lines) == 1


@pytest.mark.parametrize("name", ["LEANPACS_HTTP_PORT", "LEANPACS_HTPP__PORT", "LEANPACS_HTTP__PROT"])
def test_misspelt_variables_are_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    with pytest.raises(ConfigError, match="no such setting"):
        load_settings()


def test_variables_of_the_tests_are_no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANPACS_TEST_DATA", "/nowhere")
    assert load_settings() == Settings()


@pytest.mark.parametrize("text", ["[http", "http = 1"])
def test_unusable_file_is_a_config_error(text: str, tmp_path: Path) -> None:
    file = tmp_path / "leanpacs.toml"
    file.write_text(text)
    with pytest.raises(ConfigError):
        load_settings(file=file)


def test_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(file=tmp_path / "none.toml")
    assert caught.value.key == "config"


@pytest.mark.parametrize("title", ["", " ", "SEVENTEEN_LETTERS", "A\\B", "TAB\t", "Ä"])
def test_ae_titles_follow_the_standard(title: str) -> None:
    with pytest.raises(ConfigError, match="AE title"):
        load_settings(flags={"dimse": {"ae_title": title}})


def test_settings_are_frozen_and_travel_to_workers() -> None:
    settings = load_settings(flags={"http": {"port": 9}})
    assert pickle.loads(pickle.dumps(settings)) == settings
    with pytest.raises(ValidationError):
        settings.http.port = 1  # type: ignore[misc]


def test_every_setting_has_a_description() -> None:
    page = reference_page()
    for name, field in Settings.model_fields.items():
        section, heading = REPEATED.get(name, (field.annotation, f"[{name}]"))
        assert isinstance(section, type)
        assert issubclass(section, BaseModel)
        assert f"## `{heading}`" in page
        for key, entry in section.model_fields.items():
            assert entry.description, f"{name}.{key}"
            assert f"| `{key}` |" in page


def test_copies_go_to_other_tiers_that_there_are() -> None:
    tiers = {"warm": {"kind": "local", "url": "/w", "copies": ["hot", "cold"]}, "cold": {"kind": "local", "url": "/c"}}
    assert Settings(tiers=tiers).tiers["warm"].copies == ("hot", "cold")
    for copies in (["warm"], ["nowhere"], ["hot", "hot"]):
        with pytest.raises(ConfigError, match="tier"):
            load_settings(flags={"tiers": {"warm": {"kind": "local", "url": "/w", "copies": copies}}})


@pytest.mark.parametrize("name", ["", "Warm", "1st", "a/b"])
def test_tiers_have_plain_names(name: str) -> None:
    with pytest.raises(ConfigError, match="tiers"):
        load_settings(flags={"tiers": {name: {"kind": "local", "url": "/w"}}})


@pytest.mark.parametrize(
    "flags",
    [
        {"catalog": {"url": "mysql://leanpacs:hush@db/leanpacs"}},
        {"tiers": {"hot": {"kind": "s4", "url": "s3://a/b", "secret_access_key": "hush"}}},
        {"tiers": {"hot": '{"kind": "s3", "url": "s3://a/b", "secret_access_key": "hush"}'}},
        {"tiers": {"hot": {"kind": "s3", "url": "s3://a/b", "secret_access_key": "hush"}}},
    ],
)
def test_faults_do_not_tell_secrets(flags: dict[str, dict[str, object]]) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(flags=flags)
    assert "hush" not in f"{caught.value} {caught.value.value!r}"


def test_tiers_in_the_environment_are_json(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LEANPACS_TIERS", '{"hot": {"kind": "s3", "url": "s3://bucket/a"}}')
    assert load_settings().tiers["hot"].url == "s3://bucket/a"
    monkeypatch.setenv("LEANPACS_TIERS__WARM", '{"kind": "local", "url": "/warm"}')
    assert {name: tier.kind for name, tier in load_settings().tiers.items()} == {"hot": "s3", "warm": "local"}
    monkeypatch.setenv("LEANPACS_TIERS__WARM", '{"secret_access_key": "hush", ')
    with pytest.raises(ConfigError, match=r"tiers\.warm.*not JSON") as caught:
        load_settings()
    assert "hush" not in f"{caught.value} {caught.value.value!r}"


def test_a_catalog_on_a_server_keeps_its_password_to_itself() -> None:
    settings = load_settings(flags={"catalog": {"url": "postgresql://leanpacs:hush@db/leanpacs"}})
    assert "hush" not in repr(settings)
    assert settings.catalog.url.get_secret_value() == "postgresql://leanpacs:hush@db/leanpacs"
