"""How person names are folded, so that they are found however they are written.

References
----------
PS3.5 6.2.1 (component groups and components of VR PN), PS3.4 C.2.2.2.1 (matching of names may ignore case and
accents; a key may match any component group).
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

GROUPS: Final = 3
WORD: Final = 3
"""The part under which single words are kept, after the component groups 0 (alphabetic), 1 and 2."""

_SEPARATORS: Final = re.compile(r"[\s^=,.\-\\]+")


def folded_groups(name: str) -> tuple[str, str, str]:
    """The three component groups without case, padding and empty components at the end."""
    groups = [_folded_group(group) for group in name.split("=", GROUPS - 1)]
    alphabetic, ideographic, phonetic = groups + [""] * (GROUPS - len(groups))
    return alphabetic, ideographic, phonetic


def words(name: str) -> tuple[str, ...]:
    """The words of a name without case and accents, in order, each once."""
    return tuple(dict.fromkeys(word for word in _SEPARATORS.split(_bare(name)) if word))


def parts(name: str) -> set[tuple[int, str]]:
    """All that is kept of a name for matching: ``(part, folded text)``."""
    groups = {(part, group) for part, group in enumerate(folded_groups(name)) if group}
    return groups | {(WORD, word) for word in words(name)}


def _folded_group(group: str) -> str:
    components = [" ".join(component.split()) for component in group.split("^")]
    return unicodedata.normalize("NFC", "^".join(components).rstrip("^").casefold())


def _bare(text: str) -> str:
    decomposed = unicodedata.normalize("NFKD", text).casefold()
    return "".join(letter for letter in decomposed if not unicodedata.combining(letter))
