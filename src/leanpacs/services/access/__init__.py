"""Who may come in at the HTTP door, and what they may do there."""

from leanpacs.services.access.caller import ANONYMOUS, Caller, caller_of

__all__ = ["ANONYMOUS", "Caller", "caller_of"]
