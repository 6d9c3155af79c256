"""Bytes by digest: blob stores, packs and Zstandard dictionaries. Knows no DICOM."""
