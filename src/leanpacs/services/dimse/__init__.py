"""DIMSE: C-ECHO, C-STORE, C-FIND, C-GET and C-MOVE as an SCP (PS3.4 annexes A, B and C, PS3.7, PS3.8).

One thread serves one association, with blocking reads; the data set of an instance goes from the socket to
a file in the spool without being parsed, re-encoded or held, and from where it is made to the socket without being
copied. Upper layer and messages are written here: pynetdicom polls every millisecond in two threads for each
association, and copies each fragment several times (docs/decisions/0003).
"""

from leanpacs.services.dimse.association import Timeouts
from leanpacs.services.dimse.requester import Peer
from leanpacs.services.dimse.scp import DimseOptions, Holdings, serve
from leanpacs.services.dimse.store import Landing
from leanpacs.services.dimse.transport import bind

__all__ = ["DimseOptions", "Holdings", "Landing", "Peer", "Timeouts", "bind", "serve"]
