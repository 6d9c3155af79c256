"""What a process that stays for long does without: packages that others load where they are installed."""

from __future__ import annotations

import sys
from typing import Final

UNUSED: Final = ("gdcm", "requests")
"""pydicom loads GDCM (18 MB), and what it fetches its examples with (5 MB)."""
OF_TERMINALS: Final = ("rich",)
"""structlog loads it (4 MB) for tracebacks that are not wanted here."""


def leave_out(*names: str) -> None:
    """Let the import of packages fail as if they were not installed; to be called before anybody imports them."""
    for name in names:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]
