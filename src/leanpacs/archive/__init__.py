"""The use cases: take in, settle, give back, verify, delete. The only place where store, catalog and codecs meet."""
