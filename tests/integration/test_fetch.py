"""``leanpacs fetch`` from the archives of others: dcmtk's, and Orthanc."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import data
from dimse_archive import made, served
from leanpacs.archive.archive import open_archive
from leanpacs.audit import AuditAction
from leanpacs.cli.main import app
from leanpacs.codecs.registry import for_transfer_syntax
from leanpacs.dicom.uids import TRANSFER_SYNTAXES
from leanpacs.services.dimse.asking import COMPACT, offers
from leanpacs.services.dimse.fetching import Refused, Remote, Source, requests
from leanpacs.services.dimse.requester import Peer
from leanpacs.services.dimse.status import Reply, Status
from orthanc import running_orthanc
from peers import HOST, RECIPES, STUDY, assert_same, contents, dcmqrscp, samples, syntaxes
from ports import free_port

OTHER = data.Recipe(modality="MR", study=3, instance=40)


def run(*arguments: object, expect: int = 0) -> Any:
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == expect, (result.output, result.exception)
    return json.loads(result.stdout) if "--json" in arguments else f"{result.output} {result.exception or ''}"


def kept(archive: Path) -> list[bytes]:
    with open_archive(archive) as opened:
        return [b"".join(opened.retriever.part10(row).chunks) for row in opened.catalog.all_instances()]


@contextmanager
def old_archive(folder: Path, ours: int, files: list[bytes], options: Sequence[str] = ()) -> Iterator[str]:
    """dcmtk's archive with these files, which may move to us at a port; as `--from` names it."""
    (folder / "files").mkdir(parents=True)
    for number, content in enumerate(files):
        (folder / "files" / f"{number}.dcm").write_bytes(content)
    with dcmqrscp(folder, ours, options) as port:
        source = f"DCMQRSCP@{HOST}:{port}"
        run("send", "--to", source, folder / "files")
        yield source


@pytest.mark.external
@pytest.mark.parametrize("via", ["get", "move"])
def test_from_dcmqrscp(tmp_path: Path, via: str) -> None:
    native = [*RECIPES[:3], RECIPES[8]]
    files, port = [*contents(native), *contents([OTHER])], free_port()
    archive = tmp_path / "archive"
    with old_archive(tmp_path / "theirs", port, files) as source:
        fetch = ["fetch", "--from", source, "--data", archive, "--json"]
        more = ["--via", "move", "--listen", f"{HOST}:{port}"] if via == "move" else []
        planned = run(*fetch, "--dry-run")
        assert (planned["studies"], planned["missing"], planned["fetched"]) == (2, 5, 0)
        some = run(*fetch, *more, "--key", "ModalitiesInStudy=CT", "--study", STUDY)
        assert (some["studies"], some["fetched"], some["failed"]) == (1, 4, [])
        run("delete", "--instance", RECIPES[1].sop_uid, "--yes", "--data", archive)
        rest = run(*fetch, *more)
        assert (rest["studies"], rest["instances"], rest["here_already"], rest["fetched"]) == (2, 5, 3, 2)
        again = run(*fetch, *more)
        assert (again["here_already"], again["missing"], again["fetched"]) == (5, 0, 0)
    assert_same(kept(archive), samples(files))
    with open_archive(archive) as opened:
        stored = [event for event in opened.audit.events() if event.action is AuditAction.STORE]
        assert opened.catalog.backlog().count == 0
    assert sum(event.instances for event in stored) == 6


@pytest.mark.external
def test_from_one_who_takes_the_first_context(tmp_path: Path) -> None:
    """dcmqrscp sends on the first context it has accepted, and transcodes nothing: the rest comes when asked again."""
    made = data.Recipe(modality="CT", instance=20, transfer_syntax=data.JPEG_LOSSLESS)
    files = contents([*RECIPES[:2], made])
    with old_archive(tmp_path / "theirs", free_port(), files, ["--prefer-lossless"]) as source:
        said = run("fetch", "--from", source, "--data", tmp_path / "archive", "--json")
    assert (said["fetched"], said["failed"]) == (len(files), [])
    received = kept(tmp_path / "archive")
    assert_same(received, samples(files))
    assert syntaxes(received) == syntaxes(files)


@pytest.mark.external
def test_from_orthanc_in_every_syntax_that_it_has(tmp_path: Path) -> None:
    recipes = [recipe for recipe in RECIPES if recipe.transfer_syntax != data.HTJ2K]
    files = contents(recipes)
    archive = tmp_path / "archive"
    with running_orthanc(tmp_path / "orthanc") as orthanc:
        for content in files:
            orthanc.store(content)
        source = f"{orthanc.ae_title}@{HOST}:{orthanc.dimse_port}"
        said = run("fetch", "--from", source, "--data", archive, "--json")
        moved, port = tmp_path / "moved", free_port()
        move = ["fetch", "--from", source, "--data", moved, "--via", "move", "--json"]
        for _ in range(2):  # it does not know us; it knows us, and nobody listens
            (failed,) = run(*move, expect=1)["failed"]
            assert failed["instances"] == len(files)
            assert "could not move to LEANPACS (status C000)" in failed["reason"]
            assert "--listen" in failed["reason"]
            orthanc.knows("here", "LEANPACS", HOST, port)
        brought = run(*move, "--listen", f"{HOST}:{port}")
        assert (brought["fetched"], brought["failed"]) == (len(files), [])
        with served(tmp_path / "elsewhere") as (_, (_, other)):
            orthanc.knows("here", "LEANPACS", HOST, other)
            lost = run("fetch", "--from", source, "--data", tmp_path / "lost", "--via", "move", "--json", expect=1)
            assert "to which address" in lost["failed"][0]["reason"]
    assert (said["instances"], said["fetched"], said["failed"]) == (len(files), len(files), [])
    assert_same(kept(archive), samples(files))
    assert_same(kept(moved), samples(files))
    assert syntaxes(kept(archive)) == syntaxes(files)


def test_what_cannot_be_fetched_is_told(tmp_path: Path) -> None:
    with served(tmp_path / "theirs", *contents(RECIPES[:1])) as (_, (host, port)):
        fetch = ["fetch", "--from", f"THEIRS@{host}:{port}", "--data", tmp_path / "archive"]
        said = run(*fetch, "--json", "--study", "1.2.3", "--study", STUDY, expect=1)
        assert (said["fetched"], [one["study"] for one in said["failed"]]) == (1, ["1.2.3"])
        run(*fetch, "--study", STUDY, "--via", "move")  # nothing is missing, so nothing is asked for
        assert "KEYWORD=VALUE" in run(*fetch, "--key", "PatientID", expect=1)
        assert "NoSuchKeyword" in run(*fetch, "--key", "NoSuchKeyword=1", expect=1)
        empty = ["fetch", "--from", f"THEIRS@{host}:{port}", "--data", tmp_path / "empty", "--json"]
        (failed,) = run(*empty, "--via", "move", expect=1)["failed"]
        assert "A801" in failed["reason"]
    assert "cannot be asked" in run(*fetch, expect=1)


def test_who_is_not_let_in_is_told_why(tmp_path: Path) -> None:
    for options, words in (
        ({"allowed_calling": frozenset({"OTHER"})}, "does not take associations from the AE title LEANPACS"),
        ({"ae_title": "ELSE", "check_called": True}, "does not answer to the AE title THEIRS"),
    ):
        with served(tmp_path / "theirs", **options) as (_, (host, port)):
            said = run("fetch", "--from", f"THEIRS@{host}:{port}", "--data", tmp_path / "archive", expect=1)
            assert words in said


def test_what_an_association_had_no_room_for_is_told(tmp_path: Path) -> None:
    """An instance whose SOP class the other archive does not tell, and that is none of the common ones."""
    private = made(RECIPES[0], SOPClassUID="1.2.826.0.1.3680043.9.1")
    with served(tmp_path / "theirs", private) as (_, (host, port)):
        source = Source(Peer("THEIRS", host, port), "LEANPACS", timeout_seconds=30)
        held = [replace(one, sop_class="") for one in source.instances(STUDY)]
        with pytest.raises(Refused, match=r"^1 instances could not be sent.*--via move"):
            list(source.get(STUDY, held, {one.sop_uid for one in held}, lambda *_: Reply(Status.SUCCESS)))


def test_the_fewest_requests() -> None:
    held = [Remote("1.1", f"1.1.{number}", "") for number in range(3)] + [Remote("1.2", "1.2.1", "")]

    def asked(*missing: str) -> list[str]:
        return [keys["QueryRetrieveLevel"] for keys in requests("1", held, missing)]

    every = [one.sop_uid for one in held]
    assert asked() == []
    assert asked(*every) == ["STUDY"]
    assert asked(*every[:3]) == ["SERIES"]
    assert asked(*every[1:]) == ["IMAGE", "IMAGE", "SERIES"]
    assert requests("1", [], ()) == []


def test_from_another_leanpacs_what_is_compact_travels(tmp_path: Path) -> None:
    """Uncompressed images come as they are held there, and those that were received compressed as they came."""
    files = contents()
    with served(tmp_path / "theirs", *files) as (theirs, (host, port)):
        theirs.settler().drain()
        fetch = ["fetch", "--from", f"THEIRS@{host}:{port}", "--json"]
        run(*fetch, "--data", tmp_path / "compact")
        run(*fetch, "--data", tmp_path / "chosen", "--prefer", "JPEG2000Lossless", "--prefer", "ExplicitVRLittleEndian")
        run(*fetch, "--data", tmp_path / "plain", "--prefer", "ExplicitVRLittleEndian")
        held = {
            one.sop_uid: theirs.retriever.at_hand(one, COMPACT) or data.JPEG_XL
            for one in theirs.catalog.all_instances()
        }
    for name in ("compact", "chosen", "plain"):
        assert_same(kept(tmp_path / name), samples(files))
    sent, images = syntaxes(files), {recipe.sop_uid for recipe in RECIPES if recipe.kind != "none"}
    native = {sop_uid for sop_uid in images if sent[sop_uid] == data.EXPLICIT_LE}
    assert syntaxes(kept(tmp_path / "plain")) == sent
    assert syntaxes(kept(tmp_path / "compact")) == sent | {sop_uid: held[sop_uid] for sop_uid in native}
    assert syntaxes(kept(tmp_path / "chosen")) == sent | dict.fromkeys(native, data.JPEG_2000)


def test_only_what_is_lossless_may_be_preferred(tmp_path: Path) -> None:
    fetch = ["fetch", "--from", f"THEIRS@{HOST}:1", "--data", tmp_path / "archive"]
    assert "may lose" in run(*fetch, "--prefer", "JPEGBaseline8Bit", expect=1)
    assert "JPEGLSLossless" in run(*fetch, "--prefer", "JPEGLS", expect=1)
    assert "--via move" in run(*fetch, "--prefer", "RLELossless", "--via", "move", expect=1)


def test_what_is_asked_for_first() -> None:
    """Each by itself, nothing that may lose something before what cannot, and everything as it may be kept."""
    ct, sr = data.Recipe(modality="CT").sop_class, data.Recipe(modality="SR", kind="none").sop_class
    offered = offers({ct, sr}, COMPACT)
    assert len(offered) <= 126
    assert all(isinstance(uid, str) for _, uid in offered)
    of_ct, of_sr = ([uid for one, uid in offered if one == sop_class] for sop_class in (ct, sr))
    assert of_ct[: len(COMPACT) + 1] == [*COMPACT, data.EXPLICIT_LE]
    assert of_sr[0] == data.EXPLICIT_LE
    assert set(of_ct) == set(of_sr) == set(TRANSFER_SYNTAXES)
    assert offers({ct}, ())[0] == (ct, data.EXPLICIT_LE)
    guessed = offers({""}, COMPACT, {"CT", "KO"})
    assert len(guessed) == 126
    assert (ct, data.JPEG_LOSSLESS) in guessed
    assert (sr, (data.EXPLICIT_LE, data.IMPLICIT_LE)) in guessed
    for uid in COMPACT:
        assert TRANSFER_SYNTAXES[uid].lossless is True
        assert for_transfer_syntax(uid) is not None
