"""Instances from one transfer syntax to another."""
