"""Ports for servers that must be told which, and ports that nobody listens on.

A port that the system has picked and that was let go of may soon be picked again: by another test, or for the near end
of any connection, before the server that it is meant for listens there. These are taken from below the range that the
system picks from, by chance: who has one may use it, let go of it, and use it again.
"""

from __future__ import annotations

import random
import socket
from pathlib import Path

_LOWEST = 12_000
_PICKED_BY_THE_SYSTEM = Path("/proc/sys/net/ipv4/ip_local_port_range")
_FIRST_BY_DEFAULT = 32_768
_chance = random.SystemRandom()  # not the same ones in every process


def free_port() -> int:
    """A port that nobody listens on."""
    (port,) = free_ports(1)
    return port


def free_ports(number: int) -> list[int]:
    """So many different ports that nobody listens on."""
    candidates = range(_LOWEST, max(_first_picked_by_the_system(), _LOWEST + 4_000))
    found = [port for port in _chance.sample(candidates, 50 + 2 * number) if _is_free(port)][:number]
    assert len(found) == number, "no ports are free"
    return found


def _first_picked_by_the_system() -> int:
    try:
        return int(_PICKED_BY_THE_SYSTEM.read_text().split()[0])
    except FileNotFoundError:
        return _FIRST_BY_DEFAULT


def _is_free(port: int) -> bool:
    with socket.socket() as trying:
        try:
            trying.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
