"""``python -m leanpacs``: the same as the command ``leanpacs``."""

from leanpacs.cli.main import main

if __name__ == "__main__":
    main()
