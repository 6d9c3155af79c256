"""Instances from one transfer syntax to another (PS3.5 8.2 and A.4, PS3.3 C.7.6.3).

>>> from leanpacs.transcode import transcode_file
>>> transcode_file("in.dcm", "out.dcm", "JPEGXLLossless").status  # doctest: +SKIP
<Status.EXACT: 'exact'>

`transcode_file` does one file. `Transcoder` does any `OpenInstance`, an archive's too, as an iterator of pieces.
"""

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
