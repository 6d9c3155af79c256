"""One line of CSV for each measured instance and format."""

from __future__ import annotations

import csv
from typing import IO, Final

from leanpacs.report.measuring import Measured

COLUMNS: Final = (
    "file",
    "modality",
    "sop_class",
    "manufacturer",
    "transfer_syntax",
    "raw_bytes",
    "raw_pixel_bytes",
    "frames_measured",
    "format",
    "total_bytes",
    "sampled_bytes",
    "stream_bytes",
    "encode_seconds",
    "decode_seconds",
    "exact",
    "reason",
)


class Rows:
    """Writes what is measured as it comes, so that nothing need be kept.

    Parameters
    ----------
    file : text file
        Opened with ``newline=""``.
    """

    def __init__(self, file: IO[str]) -> None:
        self._writer = csv.writer(file)
        self._writer.writerow(COLUMNS)

    def write(self, measured: Measured) -> None:
        """Write the lines of one instance."""
        stratum = measured.drawn.stratum
        known = (
            measured.drawn.found.name,
            stratum.modality,
            stratum.sop_class,
            stratum.manufacturer,
            stratum.transfer_syntax,
            measured.raw_bytes,
            measured.raw_pixel_bytes,
            measured.frames,
        )
        for key, one in measured.formats.items():
            self._writer.writerow(
                (
                    *known,
                    key,
                    round(one.total_bytes),
                    one.sampled_bytes,
                    one.stream_bytes,
                    f"{one.encode_seconds:.6f}",
                    f"{one.decode_seconds:.6f}",
                    "no" if one.reason else "yes",
                    one.reason,
                )
            )
