"""Instances to another application entity, on as many associations as that takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from typing import Final

from leanpacs.errors import LeanPACSError
from leanpacs.services.dimse.delivery import Courier, Parcel, Sent, proposals
from leanpacs.services.dimse.requester import MOST_CONTEXTS, Peer, Unreachable, associated
from leanpacs.services.dimse.transport import Aborted, Disconnected, Released, Silence, Violation

_ENDS = (Aborted, Disconnected, Released, Silence, Violation)
_OUT_OF_RESOURCES: Final = 0xA7
_PROCESSING_FAILURE: Final = 0x0110


class _Broken(Exception):
    """The association is over, in the middle of an instance."""


def deliver(
    peer: Peer,
    calling: str,
    parcels: Sequence[Parcel],
    *,
    more: dict[int, int | str] | None = None,
    stop: Callable[[], bool] = lambda: False,
    timeout_seconds: float = 60.0,
) -> Generator[tuple[Parcel, Sent]]:
    """Send instances, and say of each in turn what became of it.

    When an association breaks, the instance that was under way has failed, and the others go on a new one.

    Parameters
    ----------
    peer : Peer
        Where to.
    calling : str
        AE title of this side.
    more : dict, optional
        Further elements of each request, such as who asked for a move.
    stop : callable
        Asked before each instance whether to send no more.
    timeout_seconds : float
        How long the peer may take at a time.
    """
    waiting = parcels
    while waiting:
        batch = _batch(waiting, peer.prefer)
        done = 0
        try:
            offers = proposals(batch, peer.prefer)
            with associated(peer, calling, offers, timeout_seconds=timeout_seconds) as exchange:
                courier = Courier(exchange, list(exchange.contexts.values()), peer.prefer)
                for number, parcel in enumerate(batch, 1):
                    if stop():
                        return
                    sent = _sent(courier, parcel, more, batch[number:])
                    done += 1
                    yield parcel, sent
        except Unreachable as error:
            yield from ((parcel, Sent(None, reason=str(error), may_help=error.transient)) for parcel in waiting)
            return
        except _Broken as error:
            yield waiting[done], Sent(None, reason=str(error), may_help=True)
            done += 1
        waiting = waiting[done:]


def deliver_with_retries(
    peer: Peer,
    calling: str,
    parcels: Sequence[Parcel],
    *,
    attempts: int,
    pause_seconds: float,
    timeout_seconds: float = 60.0,
    sleep: Callable[[float], object] = time.sleep,
) -> Generator[tuple[Parcel, Sent]]:
    """Send instances, and those again for which that may help, after a pause that doubles each time.

    Yields one result for each instance, the last one.
    """
    waiting = parcels
    for attempt in range(attempts):
        again: list[Parcel] = []
        with closing(deliver(peer, calling, waiting, timeout_seconds=timeout_seconds)) as results:
            for parcel, sent in results:
                if attempt + 1 < attempts and may_help(sent):
                    again.append(parcel)
                else:
                    yield parcel, sent
        if not again:
            return
        waiting = again
        sleep(pause_seconds * 2**attempt)


def may_help(sent: Sent) -> bool:
    """Whether sending it again may go better."""
    if sent.status is None:
        return sent.may_help
    return sent.status >> 8 == _OUT_OF_RESOURCES or sent.status == _PROCESSING_FAILURE


def _sent(courier: Courier, parcel: Parcel, more: dict[int, int | str] | None, coming: Sequence[Parcel]) -> Sent:
    try:
        return courier.send(parcel, more, coming=coming)
    except (LeanPACSError, *_ENDS) as error:
        raise _Broken(f"the association broke: {error}") from error


def _batch(parcels: Sequence[Parcel], prefer: Sequence[str]) -> Sequence[Parcel]:
    """As many of the first instances as the presentation contexts of one association are enough for."""
    kinds: set[tuple[str, str]] = set()
    for number, parcel in enumerate(parcels):
        kinds.update(proposals([parcel], prefer))
        if len(kinds) > MOST_CONTEXTS:
            return parcels[:number]
    return parcels
