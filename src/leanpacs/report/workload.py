"""What an archive has to do: studies that come in, studies that are read, sites at the end of lines."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from leanpacs.report.quantities import BitsPerSecond, Checked, NotNegative, Percent, Positive, Share, SizeBytes, Text


class Modality(Checked):
    """The studies of one modality."""

    studies_per_day: NotNegative = Field(description="Studies that come in on a working day, all sites together.")
    bytes_per_study: SizeBytes = Field(description="Mean size of a study as received, uncompressed.")
    instances_per_study: Positive = Field(default=1, description="Mean number of instances in a study.")
    series_per_study: Positive = Field(default=1, description="Mean number of series in a study.")
    growth_percent_per_year: Percent | None = Field(
        default=None, description="Growth of the number of studies; that of the whole workload when not given."
    )
    study_growth_percent_per_year: Percent = Field(
        default=0, description="Growth of the size of a study: thinner slices, more images."
    )
    held_studies: NotNegative = Field(default=0, description="Studies that are held on the first day.")


class ReadRate(Checked):
    """How often a study is read up to an age."""

    until_days: Positive | None = Field(default=None, description="Age at which this ends; left out: for ever.")
    reads_per_study_per_day: NotNegative = Field(description="Mean number of times a study is fetched in a day.")


class Site(Checked):
    """A remote site, or several that are alike."""

    link: BitsPerSecond = Field(description='Speed of the line of one such site: "5 Mbps".')
    number: int = Field(default=1, ge=1, description="How many such sites there are.")
    share_of_reads: Share = Field(default=0, description="Part of all reads that come from these sites, together.")
    share_of_studies: Share = Field(default=0, description="Part of all studies made at these sites, together.")
    reading_hours_per_day: Positive = Field(default=10, le=24, description="Hours of a day in which images are read.")


class Workload(Checked):
    """A workload file."""

    name: Text = Field(description="What it is.")
    note: str = Field(default="", description="Where its figures come from.")
    working_days_per_year: Positive = Field(default=365, le=366, description="Days of a year on which studies come in.")
    growth_percent_per_year: Percent = Field(default=0, description="Growth of the number of studies.")
    held_over_years: Positive = Field(
        default=5, le=50, description="What is held on the first day came in evenly over this many years before."
    )
    modality: dict[str, Modality] = Field(min_length=1, description="By DICOM modality.")
    reads: tuple[ReadRate, ...] = Field(default=(), description="Reads by age, youngest first; none: never read.")
    sites: dict[str, Site] = Field(default_factory=dict, description="Remote sites, by name.")

    @model_validator(mode="after")
    def _is_sound(self) -> Self:
        for name, total in (
            ("share_of_reads", sum(site.share_of_reads for site in self.sites.values())),
            ("share_of_studies", sum(site.share_of_studies for site in self.sites.values())),
        ):
            if total > 1 + 1e-9:
                raise ValueError(f"{name} of all sites together is {total:g}; it cannot be more than 1")
        ends = [rate.until_days for rate in self.reads]
        if any(end is None for end in ends[:-1]):
            raise ValueError("reads: only the last entry may leave out until_days")
        known = [end for end in ends if end is not None]
        if known != sorted(set(known)):
            raise ValueError("reads: until_days must grow from entry to entry")
        return self

    @property
    def studies_per_year(self) -> float:
        """Studies of the first year, growth left aside."""
        return sum(one.studies_per_day for one in self.modality.values()) * self.working_days_per_year

    @property
    def bytes_per_year(self) -> float:
        """Bytes as received of the first year, growth left aside."""
        a_day = sum(one.studies_per_day * one.bytes_per_study for one in self.modality.values())
        return a_day * self.working_days_per_year
