"""Administration over HTTP: what `leanpacs key`, `destination`, `outbox`, `quarantine` and `traffic` do, in JSON."""

from leanpacs.services.admin.app import Admin

__all__ = ["Admin"]
