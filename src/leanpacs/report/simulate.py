"""The model: what a policy makes of a workload, month by month.

Deterministic and without side effects; docs/explanation/simulator.md gives the formulas.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from leanpacs.errors import ConfigError
from leanpacs.report.policies import Policy, Representation
from leanpacs.report.prices import GB, Prices, Storage
from leanpacs.report.ratios import Encoding, Ratios
from leanpacs.report.simulate_ageing import Ageing, Curve, ageing
from leanpacs.report.simulate_flows import Arrivals, Calendar, Flow, arrivals, came_in, flow
from leanpacs.report.simulate_ledger import Ledger, Projection
from leanpacs.report.workload import Workload

READERS = "on-premises"
"""Place where images are read and made."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What is the same for all policies that are compared."""

    workload: Workload
    ratios: Ratios
    prices: Prices
    years: int


def project(policy: Policy, given: Assumptions) -> Projection:
    """Project one policy.

    Raises
    ------
    ConfigError
        The policy names storage, processors or presets that the prices and ratios do not know.
    """
    _check_names(policy, given)
    calendar = Calendar.of(given.workload, given.years)
    aged = ageing(policy, given.workload.reads, calendar.days)
    ledger = Ledger(len(calendar.ends) - 1)
    for name, modality in given.workload.modality.items():
        came = arrivals(modality, given.workload, calendar)
        _Cohorts(policy, given, name, came, aged, calendar).book(ledger)
    return ledger.closed(policy, given.prices)


def _check_names(policy: Policy, given: Assumptions) -> None:
    for tier, storage in policy.tiers.items():
        if storage not in given.prices.storage:
            known = ", ".join(given.prices.storage)
            raise ConfigError(f"{policy.name}: tiers.{tier}", storage, f"no such storage in the prices; known: {known}")
    if policy.compute not in given.prices.core:
        known = ", ".join(given.prices.core)
        raise ConfigError(f"{policy.name}: compute", policy.compute, f"no such core in the prices; known: {known}")
    for preset in policy.presets:
        given.ratios.of("", preset)


@dataclass(frozen=True)
class _Cohorts:
    """All studies of one modality under one policy."""

    policy: Policy
    given: Assumptions
    modality: str
    came: Arrivals
    aged: Ageing
    calendar: Calendar

    def book(self, ledger: Ledger) -> None:
        """Enter everything that happens to them."""
        self._book_arrivals(ledger)
        before: tuple[Representation, Flow] | None = None
        for number, one in enumerate(self.policy.representations):
            size = flow(self.came.size_bytes, self.aged, number, self.calendar)
            objects = flow(self._objects(one), self.aged, number, self.calendar)
            ledger.add("raw", "", size.held)
            self._book_storage(ledger, one, size.held, objects.held)
            if before is not None:
                self._book_move(ledger, before[0], one, size.entered, objects.entered)
            self._book_reads(ledger, one, size.read, objects.read)
            if self._storage(one.tier).restore_hours:
                ledger.add("restores", "", flow(self.came.studies, self.aged, number, self.calendar).read)
            before = (one, size)

    def _encoding(self, preset: str) -> Encoding:
        return self.given.ratios.of(self.modality, preset)

    def _objects(self, one: Representation) -> Curve:
        """Stored objects that come in on each day."""
        return self.came.series if one.pack == "series" else self.came.instances

    def _storage(self, tier: str) -> Storage:
        return self.given.prices.storage[self.policy.tiers[tier]]

    def _compute_place(self) -> str:
        return self.given.prices.core[self.policy.compute].place

    # -- coming in

    def _book_arrivals(self, ledger: Ledger) -> None:
        first = self.policy.representations[0]
        arrived = came_in(self.came.size_bytes, self.calendar)
        ledger.add("arrived", "", arrived)
        remote = 0.0
        upload = self._encoding(self.policy.edge.upload)
        for name, site in self.given.workload.sites.items():
            remote += site.share_of_studies
            ledger.add("line", name, arrived * site.share_of_studies * upload.ratio)
        ledger.add("in", "", arrived * (1 - remote + remote * upload.ratio))
        seconds = upload.encode_seconds_per_gb + upload.decode_seconds_per_gb
        ledger.add("cpu seconds", "upload", arrived * remote / GB * seconds)
        self._book_writes(ledger, _tiers(first), came_in(self._objects(first), self.calendar))
        ledger.add("cpu seconds", "arrival", arrived / GB * self._writing_seconds(first.preset))
        self._book_migration(ledger)

    def _book_migration(self, ledger: Ledger) -> None:
        """What is held on the first day is brought into its representation in the first month."""
        held = self.calendar.held_days
        if not held:
            return
        first_month = np.eye(1, ledger.months)[0]
        for one, present in zip(self.policy.representations, self.aged.present, strict=True):
            size = first_month * float(self.came.size_bytes[:held] @ present[:held][::-1])
            objects = first_month * float(self._objects(one)[:held] @ present[:held][::-1])
            ledger.add("cpu seconds", "recompression", size / GB * self._writing_seconds(one.preset))
            self._book_writes(ledger, _tiers(one), objects)

    def _writing_seconds(self, preset: str) -> float:
        encoding = self._encoding(preset)
        checked = encoding.decode_seconds_per_gb if self.policy.verify else 0.0
        return encoding.encode_seconds_per_gb + checked

    # -- lying there

    def _book_storage(self, ledger: Ledger, one: Representation, size: Curve, objects: Curve) -> None:
        stored = size * self._encoding(one.preset).ratio
        for tier in _tiers(one):
            storage = self._storage(tier)
            least = objects * storage.minimum_object_bytes
            ledger.add("stored", tier, stored)
            ledger.add("billed", tier, np.maximum(stored, least) + objects * storage.overhead_object_bytes)

    # -- moving on

    def _book_move(
        self, ledger: Ledger, before: Representation, one: Representation, size: Curve, objects: Curve
    ) -> None:
        """Read what was there, encode it anew where the preset changes, write it where it is not yet."""
        same = (before.preset, before.pack) == (one.preset, one.pack)
        new = Counter(_tiers(one))
        if same:
            new -= Counter(_tiers(before))
        if not new:
            return
        old = self._encoding(before.preset)
        compute = self._compute_place()
        source = self._storage(before.tier).place
        read_objects = objects if before.pack == one.pack else self._objects_of(before, one, objects)
        self._book_retrieval(ledger, before.tier, size * old.ratio, read_objects)
        stays = same and all(self._storage(tier).place == source for tier in new)
        if not stays and source != compute:
            ledger.add("leaving", source, size * old.ratio)
        self._book_writes(ledger, new.elements(), objects)
        for tier in new.elements():
            if not stays and self._storage(tier).place != compute:
                ledger.add("leaving", compute, size * self._encoding(one.preset).ratio)
        if before.preset != one.preset:
            seconds = old.decode_seconds_per_gb + self._writing_seconds(one.preset)
            ledger.add("cpu seconds", "recompression", size / GB * seconds)

    def _objects_of(self, before: Representation, one: Representation, objects: Curve) -> Curve:
        """As many objects as the earlier representation holds the same studies in."""
        total = self._objects(one).sum()
        return objects * (self._objects(before).sum() / total if total else 0.0)

    def _book_writes(self, ledger: Ledger, tiers: Iterable[str], objects: Curve) -> None:
        for tier in tiers:
            ledger.add("writes", tier, objects)

    def _book_retrieval(self, ledger: Ledger, tier: str, stored: Curve, objects: Curve) -> None:
        ledger.add("retrieved", tier, stored)
        ledger.add("reads", tier, objects)

    # -- going out

    def _book_reads(self, ledger: Ledger, one: Representation, size: Curve, objects: Curve) -> None:
        delivery, edge = self.policy.delivery, self.policy.edge
        stored = self._encoding(one.preset)
        sent = stored if delivery.preset in ("stored", one.preset) else self._encoding(delivery.preset)
        over_line = 1 - edge.hit_rate * (1 - edge.prefetched)
        asked = 1.0
        for name, site in self.given.workload.sites.items():
            asked -= site.share_of_reads * (1 - over_line)
            ledger.add("line", name, size * site.share_of_reads * over_line * sent.ratio)
        ledger.add("out", "", size * asked * sent.ratio)
        self._book_retrieval(ledger, one.tier, size * asked * stored.ratio, objects * asked)
        place, compute = self._storage(one.tier).place, self._compute_place()
        if place != compute:
            ledger.add("leaving", place, size * asked * stored.ratio)
        if compute != READERS:
            ledger.add("leaving", compute, size * asked * sent.ratio)
        if sent is not stored:
            seconds = stored.decode_seconds_per_gb + sent.encode_seconds_per_gb
            ledger.add("cpu seconds", "delivery", size * asked * (1 - delivery.cached) / GB * seconds)


def _tiers(one: Representation) -> tuple[str, ...]:
    """The tiers of all its copies."""
    return (*(one.tier,) * one.copies, *one.also_on)
