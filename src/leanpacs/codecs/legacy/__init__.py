"""Received code streams held in fewer bytes, from which they are made again byte for byte.

JPEG becomes JPEG XL with reconstruction data. JPEG-LS, JPEG Lossless and RLE are decoded, their samples encoded by a
denser codec, and a small recipe says how the same samples became the received code stream. What does not come out the
same is refused.
"""

from leanpacs.codecs.legacy.recoding import FROM_SAMPLES, RECODABLE, Recoded, rebuild, recode

__all__ = ["FROM_SAMPLES", "RECODABLE", "Recoded", "rebuild", "recode"]
