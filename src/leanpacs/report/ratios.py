"""How small each preset makes a study, and what that costs in processor time, by modality."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from leanpacs.errors import ConfigError
from leanpacs.report.quantities import Checked, NotNegative, Text

OTHER = "other"
"""Row for modalities that were not measured."""


class Encoding(Checked):
    """One preset on one modality.

    Attributes
    ----------
    ratio : float
        Stored bytes of whole data sets, headers included, as a fraction of those received.
    encode_seconds_per_gb, decode_seconds_per_gb : float
        Seconds of one core for 10**9 bytes as received.
    """

    ratio: NotNegative
    encode_seconds_per_gb: NotNegative = 0
    decode_seconds_per_gb: NotNegative = 0


RAW = Encoding(ratio=1)


class Ratios(Checked):
    """A table of measured ratios. ``raw`` is 1 for every modality and needs no entry."""

    title: Text
    source: Text = Field(description="Where the figures were measured.")
    date: Text
    note: str = ""
    modality: dict[str, dict[str, Encoding]] = Field(min_length=1, description="By DICOM modality, then preset.")

    @model_validator(mode="after")
    def _has_other(self) -> Self:
        if OTHER not in self.modality:
            raise ValueError(f"modality.{OTHER} is missing: it stands for all modalities that have no row")
        return self

    def of(self, modality: str, preset: str) -> Encoding:
        """One entry; that of ``other`` for a modality that was not measured.

        Raises
        ------
        ConfigError
            Nobody measured the preset.
        """
        if preset == "raw":
            return RAW
        for row in (modality, OTHER):
            found = self.modality.get(row, {}).get(preset)
            if found is not None:
                return found
        known = sorted({"raw"}.union(*self.modality.values()))
        raise ConfigError("preset", preset, f"no ratios for it; known: {', '.join(known)}")

    def is_measured(self, modality: str, preset: str) -> bool:
        """Whether the entry is of this modality and not that of ``other``."""
        return preset == "raw" or preset in self.modality.get(modality, {})
