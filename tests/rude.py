"""Clients that do not behave: each call is one of them, from its connection to its end."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

from dimse_peer import P_DATA, Peer, echo_command, pdu, pdv, store_command

RESET = struct.pack("ii", 1, 0)


class Rude:
    """Makes trouble at both doors of a server.

    Parameters
    ----------
    http, dimse : tuple of str and int
        Addresses of the doors.
    study : str
        Path of a study that it holds, which takes several pieces to send.
    draw : random.Random
        Decides what is sent and where it is cut.
    """

    def __init__(self, http: tuple[str, int], dimse: tuple[str, int], study: str, draw: random.Random) -> None:
        self._http = http
        self._dimse = dimse
        self._study = study
        self._draw = draw
        self.kinds: tuple[Callable[[], None], ...] = (
            self.half_open,
            self.garbage,
            self.association_left,
            self.store_cut,
            self.wrong_length,
            self.endless_pdu,
            self.find_left,
            self.get_cut,
            self.request_cut,
            self.huge_header,
            self.many_headers,
            self.answer_unread,
            self.stow_cut,
            self.stow_without_end,
            self.wrong_content_length,
        )

    # ------------------------------------------------------------------------------------------ DIMSE

    def half_open(self) -> None:
        """Connect, say nothing, go."""
        with self._connected(self._draw.choice((self._http, self._dimse))) as connection:
            self._maybe_reset(connection)

    def garbage(self) -> None:
        """Say what is no protocol at all."""
        with self._connected(self._draw.choice((self._http, self._dimse))) as connection:
            connection.sendall(self._draw.randbytes(self._draw.randint(1, 2000)))
            self._maybe_reset(connection)

    def association_left(self) -> None:
        """Associate, perhaps ask once, and go without a release."""
        with Peer(self._dimse, 10) as peer:
            peer.associate()
            if self._draw.random() < 0.5:
                peer.echo()
            peer.close(reset=self._draw.random() < 0.5)

    def store_cut(self) -> None:
        """Send a part of an instance, and go."""
        with Peer(self._dimse, 10) as peer:
            peer.associate()
            peer.send(pdu(P_DATA, pdv(3, store_command(), command=True)))
            for _ in range(self._draw.randint(0, 4)):
                peer.send(pdu(P_DATA, pdv(3, self._draw.randbytes(4000), last=False)))
            peer.close(reset=self._draw.random() < 0.5)

    def wrong_length(self) -> None:
        """A PDV that is longer than its PDU, or a message that is none."""
        with Peer(self._dimse, 10) as peer:
            peer.associate()
            broken = bytearray(pdu(P_DATA, pdv(1, echo_command(), command=True)))
            broken[self._draw.randint(2, len(broken) - 1)] ^= self._draw.randint(1, 255)
            peer.send(bytes(broken))
            with suppress(OSError):
                peer.read_pdu()

    def endless_pdu(self) -> None:
        """A PDU that claims to have 4 GB."""
        with self._connected(self._dimse) as connection:
            connection.sendall(struct.pack(">BxL", self._draw.choice((1, 4, 5)), 0xFFFFFFFF) + bytes(500))
            self._maybe_reset(connection)

    def find_left(self) -> None:
        """Two requests at once, and no look at the answers."""
        with Peer(self._dimse, 10) as peer:
            peer.associate()
            message = pdu(P_DATA, pdv(1, echo_command(), command=True))
            peer.send(message, message)
            peer.close(reset=True)

    # ------------------------------------------------------------------------------------------- HTTP

    def get_cut(self) -> None:
        """Ask for a study, read its beginning, and go."""
        wanted = self._draw.choice(("*", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.80"))
        accept = f'multipart/related; type="application/dicom"; transfer-syntax={wanted}'
        with self._connected(self._http) as connection:
            connection.sendall(self._request("GET", self._study, f"Accept: {accept}"))
            connection.recv(self._draw.choice((1, 1000, 100_000)))
            self._maybe_reset(connection)

    def request_cut(self) -> None:
        """Half of a request."""
        request = self._request("GET", self._study, "Accept: */*")
        with self._connected(self._http) as connection:
            connection.sendall(request[: self._draw.randint(1, len(request) - 1)])
            self._maybe_reset(connection)

    def huge_header(self) -> None:
        """A header field that no request needs."""
        self._refused(self._request("GET", self._study, "X-Long: " + "x" * self._draw.choice((9_000, 70_000, 400_000))))

    def many_headers(self) -> None:
        """More header fields than any request needs."""
        self._refused(self._request("GET", self._study, *(f"X-{number}: x" for number in range(500))))

    def answer_unread(self) -> None:
        """Ask, and go without a look at the answer."""
        path = self._draw.choice(("/dicom-web/studies", self._study + "/metadata", self._study + "/rendered", "/"))
        with self._connected(self._http) as connection:
            connection.sendall(self._request("GET", path, "Accept: */*"))
            self._maybe_reset(connection)

    def stow_cut(self) -> None:
        """A store request of which the greater part never comes."""
        length = self._draw.randint(20_000, 5_000_000)
        with self._connected(self._http) as connection:
            connection.sendall(self._stow(length))
            connection.sendall(_PART + self._draw.randbytes(min(length - 200, 10_000)))
            self._maybe_reset(connection)

    def stow_without_end(self) -> None:
        """A store request whose last part has no end."""
        body = _PART + self._draw.randbytes(self._draw.randint(0, 5000))
        self._refused(self._stow(len(body)) + body)

    def wrong_content_length(self) -> None:
        """A body that is longer than was said, so that its rest reads as the next request."""
        body = _PART + self._draw.randbytes(500) + b"\r\n--cut--\r\n"
        self._refused(self._stow(len(body) - self._draw.randint(1, 400)) + body)

    def _refused(self, request: bytes) -> None:
        with self._connected(self._http) as connection, suppress(OSError):
            connection.sendall(request)
            connection.recv(1000)

    def _stow(self, length: int) -> bytes:
        kind = 'Content-Type: multipart/related; type="application/dicom"; boundary=cut'
        return self._request("POST", "/dicom-web/studies", kind, f"Content-Length: {length}")

    def _request(self, method: str, path: str, *fields: str) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._http[0]}", *fields, "", ""]
        return "\r\n".join(lines).encode()

    @staticmethod
    def _connected(address: tuple[str, int]) -> socket.socket:
        return socket.create_connection(address, 20)

    def _maybe_reset(self, connection: socket.socket) -> None:
        if self._draw.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


_PART = b"--cut\r\nContent-Type: application/dicom\r\n\r\n"
