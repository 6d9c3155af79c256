"""What would be saved: measured on any folder of DICOM files, without an archive."""
