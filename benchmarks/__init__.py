"""Benchmarks: what LeanPACS takes in time, memory and bytes beside other ways to keep the same files."""
