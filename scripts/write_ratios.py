"""Write the table of ratios that comes with LeanPACS from an analysis.

::

    leanpacs analyze FILES... --sample all --json analysis.json \
        --codecs gzip-6,jpegls,jpeg2000,leanpacs-fast,leanpacs-balanced,leanpacs-dense
    python scripts/write_ratios.py analysis.json

The files must be native (uncompressed): packs of files that came compressed keep their code streams, and the ratios of
fast, balanced and dense would be those of what they came in.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from leanpacs.report import results, sources
from leanpacs.report.ratios import OTHER, Encoding
from leanpacs.report.results import Analysis

TARGET = Path(__file__).parent.parent / "src" / "leanpacs" / "report" / "shipped" / "ratios.toml"
LEAST_BYTES = 100_000
"""Modalities with less are left out: a few small files say nothing."""

HEADER = '''\
# Stored bytes of whole data sets, headers included, over bytes as received in native form; seconds of one core for
# 10**9 bytes received. zlib: gzip -6 of each file. jpegls, jpeg2000: code streams in a DICOM file, header as it is.
# fast, balanced, dense: packs of LeanPACS. Written by scripts/write_ratios.py.

title = "{instances} real images of a public test corpus"
source = "docs/explanation/simulator.md"
date = "{date}"
note = """{megabytes:.0f} MB native, stored losslessly at their source; {processor}. A small corpus: \\
measure your own images with leanpacs analyze and give its JSON with --ratios."""
'''


def main() -> None:
    """Read the analysis, write the table."""
    analysis = results.load(Path(sys.argv[1]))
    TARGET.write_text("\n".join([_header(analysis), *_rows(analysis)]) + "\n", encoding="utf-8")


def _header(analysis: Analysis) -> str:
    return HEADER.format(
        instances=analysis.total.measured,
        date=analysis.run.made_at[:10],
        megabytes=analysis.total.raw_bytes / 1e6,
        processor=analysis.machine.processor,
    )


def _rows(analysis: Analysis) -> Iterator[str]:
    groups = sorted(analysis.by_modality, key=lambda group: -group.raw_bytes)
    for group in [group for group in groups if group.key and group.raw_bytes >= LEAST_BYTES] + [analysis.total]:
        yield f"[modality.{OTHER if group is analysis.total else group.key}]"
        for preset, encoding in sources.encodings(group).items():
            yield f"{preset} = {_inline(encoding)}"
        yield ""


def _inline(encoding: Encoding) -> str:
    seconds = f"{encoding.encode_seconds_per_gb:.1f}, decode_seconds_per_gb = {encoding.decode_seconds_per_gb:.1f}"
    return f"{{ ratio = {encoding.ratio:.4f}, encode_seconds_per_gb = {seconds} }}"


if __name__ == "__main__":
    main()
