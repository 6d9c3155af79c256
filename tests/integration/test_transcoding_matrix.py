"""Every readable transfer syntax to every writable one, over real files: exact, or refused with a reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import data
from leanpacs.transcode import targets
from matrix import Matrix, fill

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "transcoding-matrix.md"
FULL = "LEANPACS_TEST_FULL_MATRIX"
HEADING = """# Transcoding matrix

{frames} real frames, of pydicom's test files and of a corpus, from every transfer syntax that they came in to every one
that is written.

- *exact*: the samples of the result are those that LeanPACS decodes from the source. Encapsulated frames were read back
  by another library than LeanPACS reads with. Native results were written as whole files and read by pydicom, which
  leaves out bits above Bits Stored. Frames as they came were read by another library too, where one reads them: the
  last table says which. Decoders of lossy sources, and of JPEG in JPEG XL, may differ by 2 in the mean.
- *lossy*: the target knows no other way; how much may be lost was said (`quality=90`). Only that it is written is shown.
- *refused*: nothing is written, for one of the reasons below.

Of large instances the first, middle and last frame are taken, and large code streams are decoded once for all
encapsulated targets. `tests/integration/test_transcoding_matrix.py` writes the page when `LEANPACS_TEST_FULL_MATRIX`
is set.

"""


def test_no_pixel_of_a_bundled_file_is_wrong() -> None:
    matrix = fill(Matrix(), [path for path in data.bundled() if path.stat().st_size < 400_000])
    assert matrix.wrong == []
    written = {target for (_, target), counts in matrix.counts.items() if counts["exact"] or counts["lossy"]}
    assert written == set(targets())
    assert matrix.checked["the first decoder only"] <= matrix.checked.total() // 50


@pytest.mark.corpus
@pytest.mark.slow
def test_no_pixel_of_a_real_file_is_wrong() -> None:
    if not os.environ.get(FULL):
        pytest.skip(f"{FULL} is not set: it takes a while")
    matrix = fill(Matrix(), [*data.bundled(), *data.corpus()])
    assert matrix.wrong == []
    PAGE.write_text(HEADING.format(frames=matrix.frames) + matrix.markdown(), encoding="utf-8")
