"""Run by test_crash.py: sends small instances over DIMSE until the server goes away.

``python crash_sender.py FIRST``: reads host, port and AE title from standard input, numbers its instances from
FIRST on, and writes each SOP Instance UID that was acknowledged with success.
"""

from __future__ import annotations

import os
import sys
from itertools import count
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from pydicom import dcmread
from pydicom.filebase import DicomBytesIO
from pynetdicom import AE

import data


def main() -> None:
    numbers = count(int(sys.argv[1]))
    ae = AE("SENDER")
    ae.add_requested_context("1.2.840.10008.5.1.4.1.1.2", data.EXPLICIT_LE)
    host, port, called = sys.stdin.readline().split()
    association = ae.associate(host, int(port), ae_title=called)
    while association.is_established:
        number = next(numbers)
        recipe = data.Recipe(rows=96, columns=96, instance=number, series=number // 20, seed=number)
        ds = dcmread(DicomBytesIO(data.make_instance(recipe)))
        try:
            answer = association.send_c_store(ds)
        except (RuntimeError, ValueError):
            break
        if "Status" in answer and answer.Status == 0:
            os.write(1, f"{ds.SOPInstanceUID}\n".encode())
    os._exit(0)  # whatever threads are left: the server they talk to is gone


if __name__ == "__main__":
    main()
