"""What becomes of instances after they have settled, as the catalog sees it: reads, work, holds, scrubs."""

from leanpacs.catalog.ageing.changing import Ageing
from leanpacs.catalog.ageing.outlines import Line, Outline, Page
from leanpacs.catalog.ageing.reading import AgeingView, Series, Trials
from leanpacs.catalog.ageing.rows import (
    Done,
    Form,
    Held,
    HoldRow,
    Key,
    Outcome,
    ScrubRow,
    Sums,
    Swap,
    Tried,
    Work,
)

__all__ = [
    "Ageing",
    "AgeingView",
    "Done",
    "Form",
    "Held",
    "HoldRow",
    "Key",
    "Line",
    "Outcome",
    "Outline",
    "Page",
    "ScrubRow",
    "Series",
    "Sums",
    "Swap",
    "Trials",
    "Tried",
    "Work",
]
