"""``leanpacs evidence``: what proves that the received bytes can be given back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer

from leanpacs.archive.archive import open_archive
from leanpacs.archive.care.evidence import Proof, proofs
from leanpacs.catalog import Kind
from leanpacs.cli.options import Config, Data, Json, settings_of
from leanpacs.cli.output import Column, human_bytes, print_json, print_table

SHOWN_IN_FULL = 3
"""More stored forms than these are listed in a table."""


def evidence(
    uid: Annotated[str, typer.Argument(metavar="UID", help="SOP, Series or Study Instance UID.")],
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Show what proves that an instance can be given back bit for bit; or all those of a series or study.

    Tells what was compared with what, when, and by which decoder; with codec, parameters, libraries, digests and
    durations. It is what the catalog holds, compared with the manifest in the pack; `leanpacs verify` decodes and
    compares anew. Exit code 1 when something is not proven, or pack and catalog do not agree; what has landed a moment
    ago and waits to be settled counts as not proven.
    """
    settings = settings_of(data, config)
    with open_archive(settings.storage.data, settings) as archive:
        found = proofs(archive, uid)
    if json:
        print_json([_record(proof) for proof in found])
    elif len(found) <= SHOWN_IN_FULL:
        for proof in found:
            print("\n".join(_in_full(proof)))
    else:
        _print_all(found)
    if not all(proof.is_proven for proof in found):
        raise typer.Exit(1)


def _in_full(proof: Proof) -> Iterator[str]:
    instance, held, proven = proof.instance, proof.held, proof.held.evidence
    received = f"{instance.received_at:%Y-%m-%d %H:%M:%S} UTC from {instance.sender or '-'} over {instance.door or '-'}"
    yield f"Instance {instance.sop_uid}"
    yield f"  received        {received}, transfer syntax {instance.transfer_syntax}"
    yield f"  data set        {instance.data_set_length} bytes, SHA-256 {instance.data_set_digest.hex}"
    stored = f"{held.kind}, {human_bytes(held.blob.size_bytes)}, fidelity {held.fidelity}"
    yield f"  stored form     {stored}, SHA-256 {held.blob.digest.hex}"
    yield f"  codec           {_coding(proof)}"
    if proven.library:
        yield f"  encoder         {proven.library}"
    if proven.decoder:
        yield f"  decoder         {proven.decoder}"
    if proven.samples_digest is not None:
        yield f"  samples         SHA-256 {proven.samples_digest.hex}"
    if proven.seconds:
        yield f"  duration        {proven.seconds:.3f} s, of which encoding {proven.encode_seconds:.3f} s"
    if held.reason:
        yield f"  why this form   {held.reason}"
    yield f"  {_verdict(proof)}"


def _coding(proof: Proof) -> str:
    held = proof.held
    if not held.codec:
        return "none: as it was received"
    effort = f", effort {held.effort}, {held.precision} bits" if held.precision else ""
    preset = f", preset {held.evidence.preset}" if held.evidence.preset else ""
    return f"{held.codec}{effort}{preset}"


def _verdict(proof: Proof) -> str:
    held, proven = proof.held, proof.held.evidence
    if held.kind is Kind.LANDED:
        return "Not settled yet: it is kept as it was received, and there is nothing to compare."
    if proof.problem:
        return f"NOT PROVEN: {proof.problem}"
    if not proof.is_proven or proven.verified_at is None:
        return "NOT PROVEN: no comparison is on record"
    what = "the data set rebuilt from this form" + (", every frame decoded," if held.precision else "")
    when = f"{proven.verified_at:%Y-%m-%d %H:%M:%S} UTC"
    return f"Proven on {when}: {what} was compared by its SHA-256 with the data set as received, and was the same."


def _print_all(found: list[Proof]) -> None:
    columns = [
        Column("instance"),
        Column("codec"),
        Column("stored", True),
        Column("proven (UTC)"),
        Column("by"),
        Column("seconds", True),
        Column("data set, SHA-256"),
    ]
    rows = [
        (
            proof.instance.sop_uid,
            _coding(proof),
            human_bytes(proof.held.blob.size_bytes),
            _when(proof),
            proof.held.evidence.decoder,
            f"{proof.held.evidence.seconds:.3f}",
            proof.instance.data_set_digest.hex[:16],
        )
        for proof in found
    ]
    print_table("Evidence", columns, rows)
    proven = sum(proof.is_proven for proof in found)
    print(
        f"{proven} of {len(found)} stored forms are proven: the data set rebuilt from each was compared by its SHA-256 "
        "with the data set as received, at the time given, and was the same."
    )
    for proof in found:
        if not proof.is_proven:
            print(f"{proof.instance.sop_uid}: {_verdict(proof)}")


def _when(proof: Proof) -> str:
    if not proof.is_proven:
        return "not settled" if proof.held.kind is Kind.LANDED else "NOT PROVEN"
    at = proof.held.evidence.verified_at
    return f"{at:%Y-%m-%d %H:%M:%S}" if at else "-"


def _record(proof: Proof) -> dict[str, object]:
    instance, held, proven = proof.instance, proof.held, proof.held.evidence
    return {
        "study": instance.study_uid,
        "series": instance.series_uid,
        "instance": instance.sop_uid,
        "received": {
            "at": instance.received_at.isoformat(),
            "from": instance.sender,
            "door": instance.door,
            "transfer_syntax": instance.transfer_syntax,
            "length": instance.data_set_length,
            "sha256": instance.data_set_digest.hex,
        },
        "stored": {
            "kind": str(held.kind),
            "form": held.form,
            "fidelity": str(held.fidelity),
            "tier": str(held.blob.tier),
            "bytes": held.blob.size_bytes,
            "sha256": held.blob.digest.hex,
            "reason": held.reason,
        },
        "coding": {
            "codec": held.codec,
            "effort": held.effort,
            "precision": held.precision,
            "preset": proven.preset,
            "library": proven.library,
        },
        "check": {
            "proven": proof.is_proven,
            "problem": proof.problem,
            "at": proven.verified_at.isoformat() if proven.verified_at else None,
            "data_set_sha256": proven.data_set_digest.hex if proven.data_set_digest else None,
            "samples_sha256": proven.samples_digest.hex if proven.samples_digest else None,
            "decoder": proven.decoder,
            "seconds": proven.seconds,
            "encode_seconds": proven.encode_seconds,
        },
    }
