"""Instances from one transfer syntax to another (PS3.5 8.2 and A.4, PS3.3 C.7.6.3)."""
