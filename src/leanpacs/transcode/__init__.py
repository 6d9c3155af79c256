"""Instances from one transfer syntax to another (PS3.5 8.2 and A.4, PS3.3 C.7.6.3).

>>> from leanpacs.transcode import transcode_file
>>> transcode_file("in.dcm", "out.dcm", "JPEGXLLossless").status  # doctest: +SKIP
<Status.EXACT: 'exact'>

`transcode_file` does one file. `Transcoder` does any `OpenInstance`, an archive's too, as an iterator of pieces.

Names are imported when they are used: an archive needs little of this to receive.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from leanpacs.codecs.writing import Lossy, WriteOptions
    from leanpacs.transcode.account import Account
    from leanpacs.transcode.engine import Transcoded, Transcoder
    from leanpacs.transcode.files import (
        FileTranscoder,
        Outcome,
        Status,
        outputs,
        transcode_file,
        transcode_files,
        transcoding,
    )
    from leanpacs.transcode.source import OpenFile, OpenInstance
    from leanpacs.transcode.target import Target, Verify, syntax_named, targets

__all__ = [
    "Account",
    "FileTranscoder",
    "Lossy",
    "OpenFile",
    "OpenInstance",
    "Outcome",
    "Status",
    "Target",
    "Transcoded",
    "Transcoder",
    "Verify",
    "WriteOptions",
    "outputs",
    "syntax_named",
    "targets",
    "transcode_file",
    "transcode_files",
    "transcoding",
]

_MODULES: Final = {
    "Account": "leanpacs.transcode.account",
    "FileTranscoder": "leanpacs.transcode.files",
    "Lossy": "leanpacs.codecs.writing",
    "OpenFile": "leanpacs.transcode.source",
    "OpenInstance": "leanpacs.transcode.source",
    "Outcome": "leanpacs.transcode.files",
    "Status": "leanpacs.transcode.files",
    "Target": "leanpacs.transcode.target",
    "Transcoded": "leanpacs.transcode.engine",
    "Transcoder": "leanpacs.transcode.engine",
    "Verify": "leanpacs.transcode.target",
    "WriteOptions": "leanpacs.codecs.writing",
    "outputs": "leanpacs.transcode.files",
    "syntax_named": "leanpacs.transcode.target",
    "targets": "leanpacs.transcode.target",
    "transcode_file": "leanpacs.transcode.files",
    "transcode_files": "leanpacs.transcode.files",
    "transcoding": "leanpacs.transcode.files",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
