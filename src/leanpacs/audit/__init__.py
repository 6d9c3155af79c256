"""The audit trail: who did what to which instance, when, and with what outcome; and how others are told of it."""

from leanpacs.audit.trail import AuditAction, AuditEvent, AuditOutcome, AuditTrail

__all__ = ["AuditAction", "AuditEvent", "AuditOutcome", "AuditTrail"]
