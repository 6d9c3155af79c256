"""Samples of frames to code streams and back, without loss or not at all.

========= ========================= ======= ======= ============================================
codec     transfer syntaxes         encodes decodes library
========= ========================= ======= ======= ============================================
jpegxl    .4.110 .4.111 .4.112      yes     yes     libjxl (imagecodecs)
htj2k     .4.201 .4.202 .4.203      yes     yes     OpenJPH (imagecodecs)
jpegls    .4.80 .4.81               yes     yes     CharLS (imagecodecs)
jpeg2000  .4.90 to .4.93            yes     yes     OpenJPEG (imagecodecs)
rle       .5                        yes     yes     imagecodecs
zstd      none                      yes     yes     Zstandard
deflate   .8.1                      yes     yes     zlib
raw       .1.98                     yes     yes     none
jpeg      .4.50 to .4.58, .4.70     no      yes     libjpeg-turbo (imagecodecs)
========= ========================= ======= ======= ============================================

Transfer syntaxes are written without their common beginning, 1.2.840.10008.1.2. What is encoded is lossless always.
"""
