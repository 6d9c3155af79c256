"""A blob store on S3, or on anything that speaks as S3 does.

::

    PREFIX/blobs/ab/ab12...ef      one object for each blob
    PREFIX/dictionaries/7.dict     keepsakes under their name, never replaced

An object becomes visible when all of its bytes are there, in one request or in the parts of a multipart upload. The
server compares what it gets with a checksum that is sent along. Parts of uploads that a crash left behind cost money
and are seen by nobody: let the bucket remove them (AbortIncompleteMultipartUpload).

References
----------
Amazon S3 API reference: PutObject (``If-None-Match``), GetObject (``Range``), CreateMultipartUpload, DeleteObjects.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

from leanpacs.errors import BlobNotFound, ConfigError, NameTaken, StoreFull, StoreUnavailable
from leanpacs.refs import BlobRef, Digest, Tier
from leanpacs.storage.ranged import RangedFile
from leanpacs.storage.store import (
    CHUNK_BYTES,
    Availability,
    BlobStat,
    BlobWriter,
    check_by_reading,
    checked_name,
    checked_range,
)
from leanpacs.storage.writing import FileWriter

try:
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, PermissionDeniedError, UnauthenticatedError
    from obstore.store import S3Store as Client
except ImportError:  # the extra is not installed
    is_available = False
else:
    is_available = True

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Config

PART_BYTES: Final = 8 << 20
"""Larger objects are uploaded in parts of this length, or of a 9,000th of the object."""
_MOST_PARTS: Final = 9_000
_PARALLEL: Final = 8
_TAIL_BYTES: Final = 64 << 10
_OWN_FOLDER: Final = "blobs"
_CODE: Final = re.compile(r"<Code>(\w+)</Code>")
_STATUS: Final = re.compile(r"status code: (\d{3} [\w ]+)")
_FULL: Final = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "InsufficientCapacity"})


@dataclass(frozen=True, slots=True)
class S3Place:
    """A bucket, a prefix in it, and how to speak to its server.

    Parameters
    ----------
    bucket, prefix : str
        Where.
    endpoint : str
        URL of the server; '' for Amazon's own of the region.
    region : str
        The region.
    access_key_id, secret_access_key : str
        Credentials; '' takes those of the environment or of the machine (``AWS_*``, instance role, web identity).
    encryption, kms_key : str
        Server-side encryption of new objects: '' leaves it to the bucket, ``AES256``, ``aws:kms``, ``aws:kms:dsse``.
    storage_class : str
        Storage class of new blobs; '' leaves it to the server.
    virtual_hosts : bool
        Whether the bucket is part of the host name.
    ca_file : str
        PEM file of the authority to trust; '' for those of the system.
    retries, retry_seconds : int, float
        How often, and how long at most, a request is repeated that failed for a reason that may pass.
    connect_seconds, idle_seconds : float
        How long to wait for a connection, and for the next bytes of an answer.
    """

    bucket: str
    prefix: str = ""
    endpoint: str = ""
    region: str = "us-east-1"
    access_key_id: str = ""
    secret_access_key: str = field(default="", repr=False)
    encryption: str = ""
    kms_key: str = ""
    storage_class: str = ""
    virtual_hosts: bool = False
    ca_file: str = ""
    retries: int = 6
    retry_seconds: float = 60.0
    connect_seconds: float = 5.0
    idle_seconds: float = 30.0


@lru_cache(maxsize=16)
def _client(place: S3Place) -> Client:
    """One client, with its pool of connections, for each place and process."""
    given = {
        "endpoint": place.endpoint,
        "access_key_id": place.access_key_id,
        "secret_access_key": place.secret_access_key,
        "server_side_encryption": place.encryption,
        "sse_kms_key_id": place.kms_key,
    }
    config = cast("S3Config", {name: value for name, value in given.items() if value})
    seconds = {"timeout": 3600.0, "connect_timeout": place.connect_seconds, "read_timeout": place.idle_seconds}
    options: dict[str, Any] = {name: timedelta(seconds=value) for name, value in seconds.items()}
    options["allow_http"] = place.endpoint.startswith("http://")
    if place.ca_file:
        options["root_certificate"] = Path(place.ca_file).read_bytes()
    return Client(
        place.bucket,
        prefix=place.prefix or None,
        config=config,
        region=place.region,
        virtual_hosted_style_request=place.virtual_hosts,
        checksum_algorithm="sha256",
        client_options=cast("ClientConfig", options),
        retry_config={"max_retries": place.retries, "retry_timeout": timedelta(seconds=place.retry_seconds)},
    )


@dataclass(frozen=True, slots=True)
class S3Store:
    """Blobs in a bucket; a plain value, so that it can be sent to a worker process.

    Parameters
    ----------
    place : S3Place
        Where, and how.
    tier : Tier
        Name of the store.
    spool : Path
        Local folder in which blobs are written before they are uploaded; made when absent.

    Raises
    ------
    ConfigError
        If the library for it is not installed.
    """

    place: S3Place
    tier: Tier
    spool: Path

    def __post_init__(self) -> None:
        if not is_available:
            raise ConfigError(f"tiers.{self.tier}.kind", "s3", "needs obstore: pip install 'leanpacs[s3]'")
        self.spool.mkdir(parents=True, exist_ok=True)

    @property
    def availability(self) -> Availability:
        """What is here can be read at once."""
        return Availability.ONLINE

    def restore(self, digest: Digest) -> float:
        """Nothing has to be asked for."""
        return 0.0

    # ------------------------------------------------------------------------------------------- writing

    def writer(self) -> BlobWriter:
        """Start to write a blob whose digest is not known yet."""
        return FileWriter(self.spool / f"writer-{uuid.uuid4().hex}", lambda _, path: self.adopt(path))

    def put(self, data: bytes) -> BlobRef:
        """Keep ``data``. Bytes that are there already are written again, which makes them young."""
        ref = BlobRef(self.tier, Digest.of(data), len(data))
        self._upload(ref, data)
        return ref

    def adopt(self, path: Path, digest: Digest | None = None) -> BlobRef:
        """Take over a closed local file; on an error it stays."""
        return self.adopt_all([(path, digest)])[0]

    def adopt_all(self, files: Sequence[tuple[Path, Digest | None]]) -> list[BlobRef]:
        """Take over several files, several at a time."""
        if len(files) < 2:
            return [self._adopt(path, digest) for path, digest in files]
        with ThreadPoolExecutor(min(_PARALLEL, len(files)), "s3-adopt") as threads:
            futures = [threads.submit(self._adopt, path, digest) for path, digest in files]
            return [future.result() for future in futures]

    def _adopt(self, path: Path, digest: Digest | None) -> BlobRef:
        try:
            if digest is None:
                with path.open("rb") as file:
                    digest = Digest(hashlib.file_digest(file, "sha256").digest())
            ref = BlobRef(self.tier, digest, path.stat().st_size)
        except OSError as error:
            raise StoreUnavailable(str(error)) from error
        self._upload(ref, path)
        path.unlink(missing_ok=True)
        return ref

    def _upload(self, ref: BlobRef, content: bytes | Path) -> None:
        attributes = {"Content-Type": "application/octet-stream"}
        if self.place.storage_class:
            attributes["Storage-Class"] = self.place.storage_class
        with self._translated():
            obstore.put(
                _client(self.place),
                blob_key(ref.digest),
                content,
                attributes=attributes,
                use_multipart=ref.size_bytes > PART_BYTES,
                chunk_size=max(PART_BYTES, ref.size_bytes // _MOST_PARTS),
                max_concurrency=4,
            )

    def spool_folder(self) -> Path:
        """Local folder for files that are to be adopted."""
        return self.spool

    # ------------------------------------------------------------------------------------------- reading

    def read(self, digest: Digest, offset: int = 0, length: int | None = None) -> bytes:
        """Bytes of a blob, all or a range."""
        if not length or offset < 0 or length < 0:
            start, end = checked_range(digest, self.size(digest), offset, length)
            return self._range(digest, start, end - start)
        return self._range(digest, offset, length)

    def _range(self, digest: Digest, offset: int, length: int) -> bytes:
        """A range in one request; only one that does not come in full costs another, to find out why."""
        if not length:
            return b""
        data = b""
        with self._translated(digest), _out_of_range():
            data = bytes(obstore.get_range(_client(self.place), blob_key(digest), start=offset, length=length))
        if len(data) != length:
            checked_range(digest, self.size(digest), offset, length)
            raise StoreUnavailable(f"{self._name}: {len(data)} bytes came where {length} were asked for")
        return data

    def open(self, digest: Digest) -> BinaryIO:
        """Open a blob as a seekable binary file; the caller closes it. Small blobs come whole, at once."""
        size, tail = self._end(digest)
        if len(tail) == size:
            return BytesIO(tail)
        reader = RangedFile(lambda offset, length: self._range(digest, offset, length), size, tail)
        return cast("BinaryIO", reader)

    def _end(self, digest: Digest) -> tuple[int, bytes]:
        """Length of a blob, and its last bytes."""
        size, tail = 0, b""
        with self._translated(digest), _out_of_range():  # as the end of an empty blob is
            answer = obstore.get(_client(self.place), blob_key(digest), options={"range": {"suffix": _TAIL_BYTES}})
            size, tail = answer.meta["size"], bytes(answer.bytes())
        if len(tail) != min(size, _TAIL_BYTES):
            raise StoreUnavailable(f"{self._name}: the end of blob {digest} came short")
        return size, tail

    def chunks(
        self, digest: Digest, offset: int = 0, length: int | None = None, *, size: int = CHUNK_BYTES
    ) -> Iterator[bytes]:
        """Bytes of a blob, all or a range, in pieces."""
        start, end = checked_range(digest, self.size(digest), offset, length)
        return self._chunks(digest, start, end, size)

    def _chunks(self, digest: Digest, start: int, end: int, size: int) -> Iterator[bytes]:
        if start == end:
            return
        left = end - start
        with self._translated(digest):
            answer = obstore.get(_client(self.place), blob_key(digest), options={"range": (start, end)})
            for received in answer.stream(min_chunk_size=size):
                view = memoryview(received)
                left -= len(view)
                for at in range(0, len(view), size):
                    yield bytes(view[at : at + size])
        if left:
            raise StoreUnavailable(f"{self._name}: {left} bytes of blob {digest} did not come")

    def size(self, digest: Digest) -> int:
        """Length of a blob in bytes."""
        with self._translated(digest):
            return obstore.head(_client(self.place), blob_key(digest))["size"]

    def exists(self, digest: Digest) -> bool:
        """Whether the store has a blob."""
        try:
            self.size(digest)
        except BlobNotFound:
            return False
        return True

    def check(self, digest: Digest) -> None:
        """Compare the bytes that the store has with the digest."""
        check_by_reading(self, digest)

    def list(self) -> Iterator[BlobStat]:
        """All blobs, by digest."""
        with self._translated():
            for page in obstore.list(_client(self.place), _OWN_FOLDER):
                for entry in page:
                    with suppress(ValueError):  # what has another name is not ours
                        digest = Digest.from_hex(entry["path"].rsplit("/", 1)[-1])
                        yield BlobStat(digest, entry["size"], _aware(entry["last_modified"]))

    def delete(self, digest: Digest) -> None:
        """Remove a blob; one that is absent is fine."""
        self.set_aside([digest])

    def set_aside(self, digests: Sequence[Digest]) -> Sequence[Path]:
        """Remove blobs, many with one request."""
        with self._translated():
            if digests:
                obstore.delete(_client(self.place), [blob_key(digest) for digest in digests])
        return []

    # ----------------------------------------------------------------------------- keepsakes, housekeeping

    def keep(self, name: str, data: bytes) -> None:
        """Keep a small named file, durably and for ever."""
        key = self._keepsake(name)
        with self._translated():
            try:
                obstore.put(_client(self.place), key, data, mode="create", use_multipart=False)
            except AlreadyExistsError:
                if self.kept(name) != data:
                    raise NameTaken(name) from None

    def kept(self, name: str) -> bytes:
        """Content of a named file."""
        with self._translated(name):
            return bytes(obstore.get(_client(self.place), self._keepsake(name)).bytes())

    def kept_names(self) -> Sequence[str]:
        """Names of all named files, sorted."""
        with self._translated():
            client = _client(self.place)
            folders = obstore.list_with_delimiter(client)["common_prefixes"]
            names = [
                entry["path"]
                for folder in folders
                if folder.strip("/") != _OWN_FOLDER
                for page in obstore.list(client, folder)
                for entry in page
            ]
        return sorted(name for name in names if name.count("/") == 1)

    def _keepsake(self, name: str) -> str:
        if checked_name(name).split("/")[0] == _OWN_FOLDER:
            raise ValueError(f"{name!r}: the folder {_OWN_FOLDER} is the store's own")
        return name

    def sweep_temporary(self, older_than: datetime) -> int:
        """Remove what writers and spools left behind on this machine and nobody touched since."""
        removed = 0
        for path in self.spool.iterdir():
            with suppress(FileNotFoundError):
                if path.is_file() and path.stat().st_mtime < older_than.timestamp():
                    path.unlink()
                    removed += 1
        return removed

    def free_bytes(self) -> None:
        """No limit is known."""
        return

    @property
    def _name(self) -> str:
        return f"tier {self.tier} (s3://{self.place.bucket}/{self.place.prefix})"

    @contextmanager
    def _translated(self, missing: Digest | str = "") -> Iterator[None]:
        """Errors of the library as those of a store; ``missing`` names what may not be there."""
        try:
            yield
        except FileNotFoundError as error:
            if missing and _code(error) != "NoSuchBucket":
                raise BlobNotFound(str(missing)) from error
            raise StoreUnavailable(f"{self._name}: {_brief(error)}") from error
        except BaseError as error:
            text = f"{self._name}: {_brief(error)}"
            if _code(error) in _FULL or " 507 " in str(error):
                raise StoreFull(text) from error
            if isinstance(error, PermissionDeniedError | UnauthenticatedError):
                text += "; check the credentials and what they allow"
            raise StoreUnavailable(text) from error


@contextmanager
def _out_of_range() -> Iterator[None]:
    """A range that begins behind the end gives nothing; the caller finds out why."""
    try:
        yield
    except BaseError as error:
        if _code(error) != "InvalidRange" and " 416 " not in str(error):
            raise


def blob_key(digest: Digest) -> str:
    """Key of a blob below the prefix."""
    name = digest.hex
    return f"{_OWN_FOLDER}/{name[:2]}/{name}"


def _code(error: Exception) -> str:
    """The error code of the server's answer, '' when there is none."""
    found = _CODE.search(str(error))
    return found[1] if found else ""


def _brief(error: Exception) -> str:
    """One line of what the library says in many."""
    text = str(error)
    status = _STATUS.search(text)
    if status:
        return f"the server answers {status[1].strip()} {_code(error)}".rstrip()
    first = text.split("\n\nDebug source", 1)[0].splitlines()[0]
    return re.sub(r"^Generic S3 error: ", "", first)[:300]


def _aware(moment: datetime) -> datetime:
    return moment.astimezone()
