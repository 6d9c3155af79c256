"""``leanpacs serve``: the archive with its doors open."""

from __future__ import annotations

from typing import Annotated

import typer

from leanpacs.cli import exits
from leanpacs.cli.options import Config, Data, settings_of
from leanpacs.cli.supervisor import Supervisor
from leanpacs.errors import ConfigError

Address = tuple[str, int]


def serve(
    data: Data = None,
    http: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Address of the HTTP door. [default: 127.0.0.1:8080]"),
    ] = None,
    dimse: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="Address of the DIMSE door. [default: 127.0.0.1:11112]"),
    ] = None,
    ae_title: Annotated[
        str | None, typer.Option(help="AE title of this archive. [default: LEANPACS]", show_default=False)
    ] = None,
    insecure: Annotated[
        bool,
        typer.Option(
            "--insecure",
            help="Open the doors beyond this machine without TLS and without credentials: whoever reaches them may "
            "read, store and delete everything, and what goes over the line can be read.",
        ),
    ] = False,
    config: Config = None,
) -> None:
    """Open the archive: receive over DIMSE and DICOMweb, settle what has landed, give back.

    Both doors listen on 127.0.0.1 unless told otherwise; port 0 takes a free one. When all is ready the addresses
    are printed on one line, `ready: http=... dimse=... ae=...`. Ctrl-C (or SIGTERM) closes the doors, goes on
    settling for a while (settle.drain_seconds), and stops; what is then left is settled after the next start. A
    second Ctrl-C stops at once, and loses nothing either.

    On another address than 127.0.0.1 a door needs TLS and credentials (docs/how-to/let-others-in.md); without them
    `serve` does not start, unless it is told `--insecure`.
    """
    flags: dict[str, dict[str, object]] = {"dimse": {"ae_title": ae_title}, "http": {}}
    if insecure:
        flags["dimse"]["insecure"] = flags["http"]["insecure"] = True
    for section, text in (("http", http), ("dimse", dimse)):
        if text is not None:
            host, port = address_of(section, text)
            flags.setdefault(section, {}).update(host=host, port=port)
    settings = settings_of(data, config, flags)
    Supervisor(settings, _told).run()


def main() -> None:
    """Run this command without loading the others, which take 15 MB: the process stays for long."""
    app = typer.Typer(
        name="leanpacs", add_completion=False, pretty_exceptions_enable=False, rich_markup_mode="markdown"
    )
    app.callback()(lambda: None)  # so that the command is still called by its name
    app.command("serve")(serve)
    exits.run(app)


def _told(line: str) -> None:
    print(line, flush=True)


def address_of(name: str, text: str) -> Address:
    """Read HOST:PORT; ``name`` is what it was given as."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit():
        raise ConfigError(name, text, "give it as HOST:PORT, for example 127.0.0.1:8080")
    return host.strip("[]") or "127.0.0.1", int(port)
