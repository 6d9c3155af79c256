"""``python -m leanpacs``, and where the installed command begins.

Nothing is imported before it is called: processes that are spawned import the program that was started, and need none
of its commands.
"""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line."""
    if sys.argv[1:2] == ["serve"]:
        from leanpacs.cli.leftout import UNUSED, leave_out

        leave_out(*UNUSED)
        from leanpacs.cli.serving import main as run
    else:
        from leanpacs.cli.main import main as run
    run()


if __name__ == "__main__":
    main()
