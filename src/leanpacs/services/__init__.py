"""The doors: protocols translated to calls of the archive. No rules live here."""
