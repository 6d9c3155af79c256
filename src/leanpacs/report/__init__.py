"""What would be saved and what it would cost: measured on any folder of DICOM files, projected over years."""
