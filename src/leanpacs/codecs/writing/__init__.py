"""Frames as receivers want them: the samples of a frame to a code stream of a transfer syntax (PS3.5 8.2).

Packs are made with the codecs of :mod:`leanpacs.codecs`, which may choose how they hold a sign or a colour. What is
written here is read by others: bits, sign and colour are as the standard says.
"""

from leanpacs.codecs.writing.options import Lossy, WriteOptions, WrittenFrame
from leanpacs.codecs.writing.table import is_lossy, writable, write_frame, write_refusal

__all__ = ["Lossy", "WriteOptions", "WrittenFrame", "is_lossy", "writable", "write_frame", "write_refusal"]
