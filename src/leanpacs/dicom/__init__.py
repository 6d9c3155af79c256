"""What a DICOM instance is: pure functions over bytes, no policy about where they are kept."""
