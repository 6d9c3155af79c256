"""What proxies say of who is in front of them."""

from __future__ import annotations

import pytest

from leanpacs.services.proxies import Hop, hops_of


@pytest.mark.parametrize(
    ("fields", "hops"),
    [
        ({}, []),
        ({"x-forwarded-for": "192.0.2.7"}, [Hop("192.0.2.7")]),
        ({"x-forwarded-for": "192.0.2.7:5123, [2001:db8::1]:443"}, [Hop("192.0.2.7"), Hop("2001:db8::1")]),
        ({"x-forwarded-for": "2001:db8::1"}, [Hop("2001:db8::1")]),
        (
            {"x-forwarded-for": "192.0.2.7", "x-forwarded-proto": "http, HTTPS", "x-forwarded-host": "a.example"},
            [Hop("192.0.2.7", "https", "a.example")],
        ),
        ({"x-forwarded-proto": "https"}, [Hop("", "https")]),
        (
            {"forwarded": 'for="[2001:db8::1]:47";proto=https;host="pacs.example:8443", for=192.0.2.60; by=_x'},
            [Hop("2001:db8::1", "https", "pacs.example:8443"), Hop("192.0.2.60")],
        ),
        ({"forwarded": 'for=_hidden, for="a,b"'}, [Hop(), Hop()]),
        ({"forwarded": "for=192.0.2.60", "x-forwarded-for": "192.0.2.99"}, [Hop("192.0.2.60")]),
        ({"forwarded": 'for="192.0.2.60:1, for="[2001:db8::1]"'}, [Hop()]),  # forged, and then true
        ({"forwarded": 'for="192.0.2.60, for=192.0.2.61'}, [Hop(), Hop(), Hop("192.0.2.61")]),
    ],
)
def test_chain_of_proxies_is_read(fields: dict[str, str], hops: list[Hop]) -> None:
    assert hops_of(fields) == hops
