"""A DICOM archive that keeps every study in the smallest form that is provably lossless."""

__version__ = "0.1.0"
