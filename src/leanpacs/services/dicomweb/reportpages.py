"""Structured reports as web pages and as plain text.

A page runs nothing and loads nothing, whatever a sender wrote: all text is escaped, and its Content Security Policy
admits only the style sheet that stands in it.

References
----------
PS3.18 8.7.4 (rendered media types), W3C Content Security Policy Level 3.
"""

from __future__ import annotations

import base64
import hashlib
import re
import textwrap
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources
from typing import Final, NamedTuple

import jinja2

from leanpacs.dicom.datadict import name_of_uid
from leanpacs.dicom.structured import Item, Reference, Report

UrlOf = Callable[[Reference], str]
"""Where an instance that a report names is shown, '' when that is not known."""

_COLUMNS: Final = 100
_DEEPEST_INDENT: Final = 40
_UNPRINTABLE: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u202a-\u202e\u2066-\u2069]")
"""Control characters, and those that turn the direction of what follows."""


class _Page(NamedTuple):
    template: jinja2.Template
    style: str
    policy: str


@cache
def _page() -> _Page:
    folder = resources.files("leanpacs.services.dicomweb").joinpath("templates")
    style = folder.joinpath("report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=_finished
    )
    template = environment.from_string(folder.joinpath("report.html").read_text(encoding="utf-8"))
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return _Page(template, style, policy)


def policy() -> str:
    """Content Security Policy of the pages."""
    return _page().policy


def html(report: Report, url_of: UrlOf) -> bytes:
    """Write a report as a page in UTF-8."""
    page = _page()
    return page.template.render(report=report, style=page.style, url_of=url_of, name_of=name_of).encode()


def plain(report: Report, url_of: UrlOf) -> bytes:
    """Write a report as plain text in UTF-8, its items indented."""
    lines = [report.title, "=" * min(len(report.title), _COLUMNS), ""]
    lines += [f"{name}: {value}" for name, value in report.facts]
    lines += ["", *_lines(report.body, 0, url_of)]
    return (_printable("\n".join(lines)) + "\n").encode()


def name_of(reference: Reference) -> str:
    """What an instance is, for people: ``CT Image, frame 3``."""
    kind = name_of_uid(reference.sop_class).removesuffix(" Storage") or reference.sop_uid or "unknown"
    details = (
        f"{name}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}" for name, numbers in reference.details
    )
    return ", ".join((kind, *details))


def _lines(item: Item, depth: int, url_of: UrlOf) -> Iterator[str]:
    indent = " " * min(2 * depth, _DEEPEST_INDENT)
    for one in item.items:
        if one.kind == "CONTAINER":
            yield ""
        first, *more = _phrase(one).splitlines() or [""]
        yield from textwrap.wrap(first, _COLUMNS, initial_indent=indent, subsequent_indent=indent + "    ")
        for line in more:
            yield f"{indent}    {line}"
        for reference in one.references:
            yield f"{indent}  {' '.join(filter(None, (name_of(reference), url_of(reference))))}"
        yield from _lines(one, depth + 1, url_of)


def _phrase(item: Item) -> str:
    if item.target:
        return f"{item.relation} item {item.target}".strip()
    if item.kind == "CONTAINER":
        return item.concept.meaning.upper()
    code = f"({item.code})" if str(item.code) else ""
    observed = f"[observed {item.observed}]" if item.observed else ""
    name = f"{item.concept.meaning}:" if item.concept.meaning else ""
    return " ".join(filter(None, (item.relation, name, item.value, code, observed)))


def _finished(value: object) -> object:
    """What an expression of the template becomes, before it is escaped."""
    return value if hasattr(value, "__html__") else _printable(str(value))


def _printable(text: str) -> str:
    """Text without what would end a document, or turn round what is read."""
    return _UNPRINTABLE.sub("\ufffd", text.replace("\r\n", "\n").replace("\n\r", "\n").replace("\r", "\n"))
