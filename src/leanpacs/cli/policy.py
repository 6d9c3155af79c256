"""``leanpacs policy``: what a policy says, and what it wants of one instance."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from leanpacs.archive.archive import open_archive
from leanpacs.catalog import Kind
from leanpacs.catalog.ageing import Held
from leanpacs.cli.options import Config, Data, Json, settings_of
from leanpacs.cli.output import Column, human_bytes, print_json, print_table
from leanpacs.errors import ConfigError, InstanceNotFound
from leanpacs.lifecycle.deciding import Decider, Wanted
from leanpacs.lifecycle.lossy import lossy_copies
from leanpacs.lifecycle.policy import Policy, load_policy, shipped

app = typer.Typer(
    no_args_is_help=True,
    help="""
Rules for what becomes of instances: which form, on which tier, for how long.

A policy is a TOML file (docs/reference/policy.md); `policy show NAME` prints those that come along, to be changed.
`policy check FILE` finds its faults, `policy explain UID` says what it wants of one instance and why.
""",
)

File = Annotated[
    str | None,
    typer.Option("--policy", metavar="FILE|NAME", help="Instead of lifecycle.policy of the settings."),
]
InDays = Annotated[float, typer.Option("--in-days", min=0, help="As if so many days had gone by.")]

_PARTS = (
    "preset",
    "fidelity",
    "tier",
    "copies",
    "pack",
    "keep_fast",
    "newest_dictionary",
    "made_since",
    "minimum_copies",
    "keep_days",
    "delete_after_days",
    "lossy_copy",
)


@app.command("check")
def check(
    file: Annotated[
        str | None, typer.Argument(metavar="[FILE|NAME]", help="The policy; that of the settings if none.")
    ] = None,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Say whether a policy is sound, and what its rules are; exit code 3 with every fault if it is not.

    Tiers that its rules name must be in the settings (`--config`); without settings only `hot` is known.
    """
    settings = settings_of(data, config)
    policy = load_policy(file or settings.lifecycle.policy, tiers=frozenset({"hot", *settings.tiers}))
    if json:
        print_json({**policy.model_dump(mode="json", exclude_defaults=True), "warnings": policy.warnings()})
        return
    print(f"{policy.name}: {policy.note}" if policy.note else policy.name)
    print_table(
        f"{len(policy.rules)} rules, in rising order of weight",
        [Column("rule"), Column("when"), Column("then")],
        [(rule.name, _words(rule.when) or "always", _words(rule.then)) for rule in policy.rules],
    )
    for warning in policy.warnings():
        print(f"note: {warning}")


@app.command("show")
def show(name: Annotated[str | None, typer.Argument(help="Which one; their names if none.")] = None) -> None:
    """Print a policy that comes with LeanPACS."""
    ours = shipped()
    if name is None:
        for one, text in ours.items():
            print(f"{one}: {load_policy(one).note if text else ''}")
        return
    if name not in ours:
        raise ConfigError("NAME", name, f"those that come along are {', '.join(ours)}")
    print(ours[name], end="")


@app.command("explain")
def explain(
    uid: Annotated[str, typer.Argument(metavar="UID", help="SOP, Series or Study Instance UID; its first instance.")],
    policy: File = None,
    in_days: InDays = 0.0,
    data: Data = None,
    config: Config = None,
    json: Json = False,
) -> None:
    """Say what the policy wants of an instance, by which rule, and why the others do not hold."""
    settings = settings_of(data, config)
    chosen = policy_of(policy or settings.lifecycle.policy, frozenset({"hot", *settings.tiers}))
    now = datetime.now(UTC) + timedelta(days=in_days)
    decider = Decider(chosen, now)
    with open_archive(settings.storage.data, settings) as archive:
        found = next(
            (
                rows[0]
                for key in ("sop_uid", "series_uid", "study_uid")
                if (rows := archive.catalog.instances(**{key: uid}))
            ),
            None,
        )
        if found is None:
            raise InstanceNotFound(uid)
        held = next(one for one in archive.catalog.ageing.series_of(found.series_id) if one.instance_id == found.id)
        tried = archive.catalog.ageing.tried(found.id)
    wanted = decider.wanted(held)
    copies = lossy_copies(held, wanted.lossy_copy, tried)
    if json:
        print_json({**_record(found.sop_uid, chosen, decider, held, wanted), "lossy_copies": copies})
        return
    print(f"{found.sop_uid}: {held.modality or 'no modality'}, {human_bytes(held.length)}, from {held.source or '-'}")
    print(f"{decider.age_days(held):.1f} days old, read {held.reads} times; policy {chosen.name}")
    print_table(
        "Held",
        [Column("form"), Column("codec"), Column("preset"), Column("tier"), Column("size", True)],
        [
            (
                one.form if one.kind == Kind.PACK else "as it landed",
                one.codec,
                one.preset,
                one.tier,
                human_bytes(one.size_bytes),
            )
            for one in held.forms
        ],
    )
    print_table(
        "Wanted",
        [Column("what"), Column("value"), Column("because of")],
        [(part, _value(getattr(wanted, part)), wanted.rule_for(part) or "(default)") for part in _PARTS],
    )
    if copies:
        print_table("Lossy copies", [Column("how"), Column("state")], list(copies.items()))
    print_table(
        "Rules",
        [Column("rule"), Column("holds"), Column("why not")],
        [(rule.name, "no" if faults else "yes", "; ".join(faults)) for rule, faults in decider.rules(held)],
    )


def policy_of(name: str, tiers: frozenset[str]) -> Policy:
    """The policy of a file or name, its tiers checked."""
    return load_policy(name, tiers=tiers)


def _record(sop_uid: str, policy: Policy, decider: Decider, held: Held, wanted: Wanted) -> dict[str, object]:
    forms = [
        {
            "kind": one.kind,
            "form": one.form,
            "codec": one.codec,
            "preset": one.preset,
            "tier": one.tier,
            "bytes": one.size_bytes,
        }
        for one in held.forms
    ]
    return {
        "instance": sop_uid,
        "policy": policy.name,
        "age_days": decider.age_days(held),
        "reads": held.reads,
        "held": forms,
        "wanted": {name: value for name, value in asdict(wanted).items() if name != "because"},
        "because": dict(wanted.because),
        "rules": [{"rule": rule.name, "holds": not faults, "fails": faults} for rule, faults in decider.rules(held)],
    }


def _words(part: object) -> str:
    named = part.model_dump(exclude_none=True, exclude_defaults=True)  # type: ignore[attr-defined]
    return ", ".join(f"{name} {_value(getattr(part, name))}" for name in named)


def _value(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return "none" if value is None else str(value)
