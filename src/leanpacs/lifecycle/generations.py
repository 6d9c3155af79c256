"""Whether a stored form is as small as a preset asks for, and which generation of a preset a trial belongs to."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import Final

from leanpacs.catalog.ageing import Form
from leanpacs.codecs import presets
from leanpacs.lifecycle.deciding import Wanted
from leanpacs.lifecycle.policy import begin_of

_RANKS: Final = {"": 0, "fast": 0, "balanced": 1, "dense": 2}


@lru_cache(maxsize=64)
def generation(preset: str) -> str:
    """A short name for what a preset tries; another one once its candidates change, so that trials are made again."""
    return hashlib.sha256(repr(presets.preset(preset)).encode()).hexdigest()[:8] if preset else ""


def is_as_small(form: Form, wanted: Wanted) -> bool:
    """Whether a form was made by the preset that is wanted, or by one that makes smaller ones, and since the day."""
    if wanted.made_since is not None and form.made_at < begin_of(wanted.made_since):
        return False
    rank = _RANKS.get(wanted.preset)
    if rank is None:
        return form.preset == wanted.preset
    return _RANKS.get(form.preset, -1) >= rank
