"""Benchmarks: what LeanPACS takes in time, memory and bytes beside other ways to keep the same files."""

import sys
from pathlib import Path

# Databases and object stores are started as the tests start them, whose modules find each other there.
sys.path.append(str(Path(__file__).parent.parent / "tests"))
