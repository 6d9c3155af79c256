"""Archive classes of S3 (GLACIER, DEEP_ARCHIVE): asking for objects, and what the server says of them.

References
----------
Amazon S3 API reference: RestoreObject, HeadObject (``x-amz-restore``, ``x-amz-checksum-sha256``).
AWS Signature Version 4 (Authenticating Requests: Using the Authorization Header).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import http.client
import os
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from urllib.parse import quote, urlsplit

from leanpacs.errors import BlobCorrupt, BlobNotFound, ConfigError, StoreUnavailable
from leanpacs.refs import Digest
from leanpacs.storage.s3 import S3Place, blob_key
from leanpacs.storage.store import BlobStore

ARCHIVED: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})
"""Storage classes whose objects must be asked for."""
HOURS: Final[Mapping[tuple[str, str], float]] = {
    ("GLACIER", "Expedited"): 5 / 60,
    ("GLACIER", "Standard"): 5.0,
    ("GLACIER", "Bulk"): 12.0,
    ("DEEP_ARCHIVE", "Standard"): 12.0,
    ("DEEP_ARCHIVE", "Bulk"): 48.0,
}
"""How long restoring takes at most as a rule, by storage class and speed (Amazon S3 user guide)."""
_ONGOING: Final = re.compile(r'ongoing-request="(true|false)"')
_IN_PROGRESS: Final = 409


@dataclass(frozen=True, slots=True)
class S3Restoring:
    """Objects of an archive class are copied back for some days when they are asked for.

    Parameters
    ----------
    place : S3Place
        Where they are; its storage class is one of ``ARCHIVED``.
    days : int
        For how many days a copy stays.
    speed : str
        ``Expedited``, ``Standard`` or ``Bulk``.
    """

    place: S3Place
    days: int
    speed: str

    def __post_init__(self) -> None:
        if (self.place.storage_class, self.speed) not in HOURS:
            raise ConfigError("restore_speed", self.speed, f"{self.place.storage_class} has no such speed")

    def seconds_left(self, digest: Digest) -> float | None:
        """See `Restoring`."""
        headers = self._head(digest)
        if headers.get("x-amz-storage-class") not in ARCHIVED:
            return 0.0
        ongoing = _ONGOING.search(headers.get("x-amz-restore", ""))
        if ongoing is None:
            return None
        return self._usual_seconds if ongoing[1] == "true" else 0.0

    def ask(self, digest: Digest) -> float:
        """See `Restoring`."""
        body = (
            '<RestoreRequest xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Days>{self.days}</Days><GlacierJobParameters><Tier>{self.speed}</Tier></GlacierJobParameters>"
            "</RestoreRequest>"
        ).encode()
        status, _, text = request(self.place, "POST", blob_key(digest), query="restore=", body=body)
        if status not in (200, 202, _IN_PROGRESS):
            raise StoreUnavailable(f"blob {digest} cannot be restored: the server answers {status} {text[:200]}")
        return self._usual_seconds

    def check(self, store: BlobStore, digest: Digest) -> None:
        """Compare the digest with the checksum that the server made of what it got.

        Of an object that came in parts the server has one checksum for each part, which it compared when they came;
        what is left to be checked is that the object is there.
        """
        checksum = self._head(digest).get("x-amz-checksum-sha256", "")
        if checksum and "-" not in checksum and base64.b64decode(checksum) != digest.raw:
            raise BlobCorrupt(digest.hex, f"the server has an object with the checksum {checksum}")

    @property
    def _usual_seconds(self) -> float:
        return HOURS[self.place.storage_class, self.speed] * 3600

    def _head(self, digest: Digest) -> Mapping[str, str]:
        status, headers, _ = request(self.place, "HEAD", blob_key(digest), more={"x-amz-checksum-mode": "ENABLED"})
        if status == 404:
            raise BlobNotFound(digest.hex)
        if status != 200:
            raise StoreUnavailable(f"the server answers {status} when asked about blob {digest}")
        return headers


def request(
    place: S3Place,
    method: str,
    key: str,
    *,
    query: str = "",
    body: bytes = b"",
    more: Mapping[str, str] | None = None,
    now: datetime | None = None,
) -> tuple[int, Mapping[str, str], str]:
    """Send one signed request about an object; status, header fields in lower case, and text of the answer.

    Raises
    ------
    StoreUnavailable
        If there is no answer.
    """
    scheme, host, path = _address(place, key)
    headers = signed(place, method, host, path, query, body, more or {}, now or datetime.now(UTC))
    try:
        connection = _connection(place, scheme, host)
        try:
            connection.request(method, f"{path}?{query}" if query else path, body or None, headers)
            answer = connection.getresponse()
            text = answer.read().decode(errors="replace")
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, text
        finally:
            connection.close()
    except (OSError, http.client.HTTPException) as error:
        raise StoreUnavailable(f"{host}: {error}") from error


def _address(place: S3Place, key: str) -> tuple[str, str, str]:
    endpoint = urlsplit(place.endpoint or f"https://s3.{place.region}.amazonaws.com")
    path = "/".join(part for part in ("" if place.virtual_hosts else place.bucket, place.prefix, key) if part)
    host = endpoint.netloc
    if place.virtual_hosts and not place.endpoint:
        host = f"{place.bucket}.{host}"
    return endpoint.scheme, host, "/" + quote(path)


def _connection(place: S3Place, scheme: str, host: str) -> http.client.HTTPConnection:
    if scheme == "http":
        return http.client.HTTPConnection(host, timeout=place.idle_seconds)
    trusted = ssl.create_default_context(cafile=place.ca_file or None)
    return http.client.HTTPSConnection(host, timeout=place.idle_seconds, context=trusted)


def signed(
    place: S3Place,
    method: str,
    host: str,
    path: str,
    query: str,
    body: bytes,
    more: Mapping[str, str],
    now: datetime,
) -> dict[str, str]:
    """Header fields of a request with its signature (Signature Version 4)."""
    access, secret, token = _credentials(place)
    content = hashlib.sha256(body).hexdigest()
    moment, day = f"{now:%Y%m%dT%H%M%SZ}", f"{now:%Y%m%d}"
    fields = {"host": host, "x-amz-content-sha256": content, "x-amz-date": moment, **more}
    if token:
        fields["x-amz-security-token"] = token
    names = ";".join(sorted(fields))
    canonical = "\n".join(
        [method, path, query, *(f"{name}:{fields[name].strip()}" for name in sorted(fields)), "", names, content]
    )
    scope = f"{day}/{place.region}/s3/aws4_request"
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    to_sign = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{digest}"
    key = f"AWS4{secret}".encode()
    for part in (day, place.region, "s3", "aws4_request", to_sign):
        key = hmac.digest(key, part.encode(), "sha256")
    authorization = f"AWS4-HMAC-SHA256 Credential={access}/{scope}, SignedHeaders={names}, Signature={key.hex()}"
    return {**fields, "authorization": authorization}


def _credentials(place: S3Place) -> tuple[str, str, str]:
    if place.access_key_id:
        return place.access_key_id, place.secret_access_key, ""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    access, secret, token = (os.environ.get(name, "") for name in names)
    if not access:
        raise StoreUnavailable("an archive class of S3 needs access_key_id in the settings, or AWS_ACCESS_KEY_ID")
    return access, secret, token
