"""What was used last stays, within its bound."""

from __future__ import annotations

from leanpacs.archive.giveback.lastused import LastUsed


def test_what_was_not_used_for_longest_goes_first() -> None:
    held: LastUsed[str, bytes] = LastUsed(30, len)
    for key in "abc":
        held.put(key, bytes(10))
    assert held.get("a") == bytes(10)
    held.put("d", bytes(10))
    assert [key for key in "abcd" if held.get(key) is not None] == ["a", "c", "d"]


def test_what_takes_the_place_of_another_counts_once() -> None:
    held: LastUsed[str, bytes] = LastUsed(30, len)
    for size in (20, 25, 5, 10):
        held.put("a", bytes(size))
    held.put("b", bytes(20))
    assert (held.get("a"), held.get("b")) == (bytes(10), bytes(20))


def test_what_is_too_large_is_not_remembered_and_drives_out_nothing() -> None:
    held: LastUsed[str, bytes] = LastUsed(30, len, largest_share=3)
    held.put("a", bytes(10))
    held.put("b", bytes(11))
    assert (held.get("a"), held.get("b"), len(held)) == (bytes(10), None, 1)


def test_what_nobody_used_for_a_while_is_forgotten() -> None:
    moment = 0.0
    held: LastUsed[str, bytes] = LastUsed(30, len, now=lambda: moment)
    held.put("a", b"1")
    held.put("b", b"2")
    moment = 10.0
    held.get("a")
    moment = 15.0
    held.forget_unused(6.0)
    assert (held.get("a"), held.get("b")) == (b"1", None)
