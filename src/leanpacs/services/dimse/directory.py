"""Known destinations: those in the settings, and those in the catalog, which come and go while doors are open."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from leanpacs.catalog import DestinationRow, Outgoing
from leanpacs.services.dimse.requester import Peer
from leanpacs.services.dimse.security import client_tls


class Peers(Protocol):
    """Finds known destinations; a mapping by AE title is one, too."""

    def get(self, ae_title: str, /) -> Peer | None:
        """The destination of that AE title."""
        ...


class Directory:
    """Known destinations. Thread-safe.

    Parameters
    ----------
    fixed : sequence of Peer
        Those in the settings: they go before those of the same AE title in the catalog.
    outgoing : Outgoing
        Of the catalog; asked each time.
    certificate : (Path, Path), optional
        PEM files of certificate and key that are shown to destinations in the catalog which use TLS.
    """

    def __init__(self, fixed: Sequence[Peer], outgoing: Outgoing, certificate: tuple[Path, Path] | None = None) -> None:
        self._fixed = {peer.ae_title: peer for peer in fixed}
        self._outgoing = outgoing
        self._certificate = certificate

    def get(self, ae_title: str, /) -> Peer | None:
        """The destination of that AE title.

        Raises
        ------
        ConfigError
            Its authorities, or the certificate that it is shown, cannot be used.
        CatalogUnavailable
            The catalog does not answer.
        """
        if ae_title in self._fixed:
            return self._fixed[ae_title]
        row = self._outgoing.destination(ae_title)
        return None if row is None else peer_of(row, self._certificate)


def peer_of(row: DestinationRow, certificate: tuple[Path, Path] | None = None) -> Peer:
    """A destination of the catalog; raises as `Directory.get`."""
    shown = certificate or (None, None)
    tls = client_tls(Path(row.tls_ca) if row.tls_ca else None, *shown) if row.tls else None
    return Peer(row.ae_title, row.host, row.port, row.prefer, row.reports_apart, tls)
