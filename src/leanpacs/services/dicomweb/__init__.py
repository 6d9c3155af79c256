"""DICOMweb (PS3.18 10): store, search and retrieve studies over HTTP."""
