"""The other side of the DIMSE door: an archive that only keeps files, and a peer that says what it is told to.

The peer builds its PDUs byte by byte (PS3.8 section 9.3), so that it can also build wrong ones.
"""

from __future__ import annotations

import io
import os
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_dataset

from leanpacs.archive.intake.incoming import Incoming, Outcome, Receipt
from leanpacs.dicom.write import file_meta
from leanpacs.services.dimse import DimseOptions, Holdings, Landing, Timeouts, bind, serve
from leanpacs.telemetry import Metrics

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
APPLICATION_CONTEXT = "1.2.840.10008.3.1.1.1"
P_DATA, RELEASE_RQ, RELEASE_RP, ABORT = 4, 5, 6, 7

Offer = tuple[int, str, Sequence[str]]
DEFAULT_OFFERS: Sequence[Offer] = ((1, VERIFICATION, [IMPLICIT_LE]), (3, CT, [EXPLICIT_LE]))
SENT_AT_ONCE = 1000
TIMEOUTS = Timeouts(request=30.0, idle=30.0, network=30.0, linger=0.5)


@dataclass
class KeptFile:
    """A file that was landed: what was said about it, and its bytes."""

    incoming: Incoming
    data: bytes

    @property
    def file(self) -> bytes:
        """As a PS3.10 file: with file meta information where the bytes tell their transfer syntax without."""
        if self.data[128:132] == b"DICM":
            return self.data
        incoming = self.incoming
        syntax = incoming.transfer_syntax or ""
        return file_meta(incoming.sop_class, incoming.sop_uid, syntax, incoming.sender) + self.data


@dataclass
class FakeArchive:
    """Moves what is landed into memory; ``answer`` may say or raise something else."""

    spool_folder: Path
    answer: Callable[[Incoming], Receipt] | None = None
    keep_bytes: bool = True
    kept: list[KeptFile] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def land(self, incoming: Incoming) -> Receipt:
        if self.answer is not None:
            return self.answer(incoming)
        size = incoming.path.stat().st_size
        data = incoming.path.read_bytes() if self.keep_bytes else b""
        incoming.path.unlink()
        with self.lock:
            self.kept.append(KeptFile(incoming, data))
        return Receipt(Outcome.STORED, size)

    @property
    def spooled(self) -> list[Path]:
        return list(self.spool_folder.iterdir())


@contextmanager
def door(
    archive: Landing, *, holdings: Holdings | None = None, metrics: Metrics | None = None, **options: object
) -> Iterator[tuple[str, int]]:
    """Serve ``archive`` in a thread; yields the address."""
    stop = threading.Event()
    settings = DimseOptions(**{"timeouts": TIMEOUTS, "stop_seconds": 5.0, **options})  # type: ignore[arg-type]
    with bind("127.0.0.1", 0) as listener:
        arguments = (listener, archive, settings, stop)
        thread = threading.Thread(target=serve, args=arguments, kwargs={"holdings": holdings, "metrics": metrics})
        thread.start()
        try:
            yield listener.getsockname()
        finally:
            stop.set()
            thread.join(60)
            assert not thread.is_alive()


def serve_process(listener: socket.socket, folder: Path, ready: Connection) -> None:
    """Serve in a process of its own until ``ready`` is closed; what lands is named after the process."""
    stop = threading.Event()

    def wait_for_the_end() -> None:
        with suppress(EOFError, OSError):
            ready.recv()
        stop.set()

    def land(incoming: Incoming) -> Receipt:
        size = incoming.path.stat().st_size
        incoming.path.rename(folder / "kept" / f"{incoming.name}-{os.getpid()}")
        return Receipt(Outcome.STORED, size)

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    ready.send(os.getpid())
    serve(listener, FakeArchive(folder / "spool", answer=land), DimseOptions(timeouts=TIMEOUTS), stop)


@cache
def dcmtk(name: str) -> str:
    """Path of a program of dcmtk (pynetdicom installs others under the same names), or skip."""
    for folder in ("/usr/bin", "/usr/local/bin", "/opt/homebrew/bin", None):
        path = shutil.which(name, path=folder)
        if path and "dcmtk" in subprocess.run([path, "--version"], capture_output=True, text=True).stdout:
            return path
    pytest.skip(f"dcmtk's {name} is not installed")


def item(item_type: int, content: bytes) -> bytes:
    """An item of an association PDU."""
    return struct.pack(">BxH", item_type, len(content)) + content


def request(
    offers: Iterable[Offer] = DEFAULT_OFFERS,
    *,
    called: str = "LEANPACS",
    calling: str = "PEER",
    max_pdu_bytes: int = 16384,
    version: int = 1,
    application: str = APPLICATION_CONTEXT,
) -> bytes:
    """Content of an A-ASSOCIATE-RQ PDU."""
    contexts = b"".join(
        item(
            0x20,
            struct.pack("BBBB", context_id, 0, 0, 0)
            + item(0x30, abstract.encode())
            + b"".join(item(0x40, syntax.encode()) for syntax in syntaxes),
        )
        for context_id, abstract, syntaxes in offers
    )
    user = item(0x51, struct.pack(">L", max_pdu_bytes)) + item(0x52, b"1.2.3") + item(0x55, b"PEER")
    titles = called.ljust(16).encode() + calling.ljust(16).encode()
    fixed = struct.pack(">Hxx", version) + titles + bytes(32)
    return fixed + item(0x10, application.encode()) + contexts + item(0x50, user)


def pdu(pdu_type: int, content: bytes) -> bytes:
    """A PDU with its header."""
    return struct.pack(">BxL", pdu_type, len(content)) + content


def pdv(context_id: int, data: bytes, *, command: bool = False, last: bool = True) -> bytes:
    """A presentation data value with its header."""
    return struct.pack(">LBB", len(data) + 2, context_id, command | last << 1) + data


def command_set(**elements: object) -> bytes:
    """A command set by DICOM keywords, encoded by pydicom."""
    body = data_set(**elements)
    return struct.pack("<HHLL", 0, 0, 4, len(body)) + body


def data_set(**elements: object) -> bytes:
    """A data set by DICOM keywords in Implicit VR Little Endian, encoded by pydicom."""
    ds = Dataset()
    for keyword, value in elements.items():
        setattr(ds, keyword, value)
    body = io.BytesIO()
    write_dataset(_writer(body), ds)
    return body.getvalue()


def store_command(sop_uid: str = "1.2.3", *, message_id: int = 1, sop_class: str = CT) -> bytes:
    """The command set of a C-STORE request."""
    return command_set(
        AffectedSOPClassUID=sop_class,
        CommandField=0x0001,
        MessageID=message_id,
        Priority=0,
        CommandDataSetType=0,
        AffectedSOPInstanceUID=sop_uid,
    )


def echo_command(message_id: int = 1) -> bytes:
    """The command set of a C-ECHO request."""
    return command_set(
        AffectedSOPClassUID=VERIFICATION, CommandField=0x0030, MessageID=message_id, CommandDataSetType=0x0101
    )


def read_command(encoded: bytes) -> Dataset:
    """Decode a command set with pydicom."""
    return read_dataset(io.BytesIO(encoded), is_implicit_VR=True, is_little_endian=True)


def _writer(stream: io.BytesIO) -> object:
    from pydicom.filebase import DicomFileLike

    writer = DicomFileLike(stream)
    writer.is_implicit_VR, writer.is_little_endian = True, True
    return writer


class ScriptedConnection:
    """What the door needs of a socket: gives its bytes in pieces of the given lengths, then ends or stalls."""

    def __init__(self, data: bytes, pieces: Iterator[int] | None = None, *, stalls: bool = False) -> None:
        self.unread = memoryview(data)
        self._pieces = pieces
        self._stalls = stalls
        self._timeout: float | None = None
        self.sent = b""
        self.closed = False
        self.answers = True

    def recv_into(self, buffer: memoryview) -> int:
        most = min(next(self._pieces, len(buffer)) if self._pieces else len(buffer), len(buffer))
        part, self.unread = self.unread[:most], self.unread[most:]
        if not part and self._stalls:
            raise TimeoutError
        buffer[: len(part)] = part
        return len(part)

    def sendall(self, data: bytes) -> None:
        if self.closed or not self.answers:
            raise BrokenPipeError("gone")
        self.sent += data

    def sendmsg(self, parts: Sequence[bytes]) -> int:
        """Take a part of it, as the kernel may."""
        taken = b"".join(parts)[:SENT_AT_ONCE]
        self.sendall(taken)
        return len(taken)

    def settimeout(self, value: float | None) -> None:
        self._timeout = value

    def gettimeout(self) -> float | None:
        return self._timeout

    def setsockopt(self, *_: object) -> None:
        pass

    def shutdown(self, how: int) -> None:
        if self.closed:
            raise OSError("not connected")

    def close(self) -> None:
        self.closed = True

    def __enter__(self) -> ScriptedConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Peer:
    """A connection to the door, which may take so many seconds to answer; a context manager that closes it."""

    def __init__(self, address: tuple[str, int], seconds: float = 60.0) -> None:
        self._socket = socket.create_connection(address, seconds)
        self._unread = b""

    def send(self, *data: bytes) -> None:
        self._socket.sendall(b"".join(data))

    def read(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            part = self._socket.recv(length - len(data))
            if not part:
                break
            data += part
        return data

    def read_pdu(self) -> tuple[int, bytes] | None:
        """The next PDU, or None when the connection is closed."""
        header = self.read(6)
        if not header:
            return None
        pdu_type, length = struct.unpack(">BxL", header)
        return pdu_type, self.read(length)

    def associate(self, offers: Iterable[Offer] = DEFAULT_OFFERS, **changes: object) -> tuple[int, bytes]:
        """Ask for an association; the answer."""
        self.send(pdu(1, request(offers, **changes)))  # type: ignore[arg-type]
        answer = self.read_pdu()
        assert answer
        return answer

    def response(self) -> Dataset:
        """Command set of the next response, whatever PDUs it comes in; a data set is passed over."""
        encoded = b""
        while True:
            control, value = self._read_pdv()
            encoded += value if control & 1 else b""
            if control == 3:
                return read_command(encoded)

    def _read_pdv(self) -> tuple[int, bytes]:
        """Control byte and value of the next PDV."""
        if not self._unread:
            answer = self.read_pdu()
            assert answer, "the connection was closed"
            assert answer[0] == P_DATA, answer
            self._unread = answer[1]
        length, _, control = struct.unpack(">LBB", self._unread[:6])
        value, self._unread = self._unread[6 : length + 4], self._unread[length + 4 :]
        assert len(value) == length - 2
        return control, value

    def store(self, data: bytes = b"", sop_uid: str = "1.2.3", *, context_id: int = 3, size: int = 4096) -> Dataset:
        """Send an instance; the response."""
        self.send(pdu(P_DATA, pdv(context_id, store_command(sop_uid), command=True)))
        for start in range(0, max(len(data), 1), size):
            last = start + size >= len(data)
            self.send(pdu(P_DATA, pdv(context_id, data[start : start + size], last=last)))
        return self.response()

    def echo(self, message_id: int = 1) -> Dataset:
        """Send a C-ECHO; the response."""
        self.send(pdu(P_DATA, pdv(1, echo_command(message_id), command=True)))
        return self.response()

    def release(self) -> None:
        """Release the association, and wait until the door has said yes and closed."""
        self.send(pdu(RELEASE_RQ, bytes(4)))
        assert self.read_pdu() == (RELEASE_RP, bytes(4))
        self._socket.shutdown(socket.SHUT_WR)
        assert self.read_pdu() is None

    def close(self, *, reset: bool = False) -> None:
        """Close; with ``reset`` as a peer that dies does."""
        if reset:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def __enter__(self) -> Peer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
