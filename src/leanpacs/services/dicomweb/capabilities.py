"""What the service can do, for machines: WADL, as the standard has it, or OpenAPI.

References
----------
PS3.18 8.9 (retrieve capabilities), annex H (capabilities description); W3C submission WADL.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree

import orjson
from starlette.responses import Response

from leanpacs import __version__
from leanpacs.services.dicomweb import media
from leanpacs.services.dicomweb.problems import Problem
from leanpacs.services.operations import Operation, openapi

if TYPE_CHECKING:
    from starlette.requests import Request

    from leanpacs.services.dicomweb.urls import Urls

WADL: Final = "application/vnd.sun.wadl+xml"
_NAMESPACE: Final = "http://wadl.dev.java.net/2009/02"


def described(request: Request, operations: Sequence[Operation], urls: Urls) -> Response:
    """Answer OPTIONS of the root of the service.

    Raises
    ------
    Problem
        406: neither WADL nor JSON is acceptable.
    """
    form = media.choose(media.accepted(request.headers.get("accept")), (WADL, media.JSON))
    if form is None:
        raise Problem(406, f"Capabilities are described as {WADL} or {media.JSON} (OpenAPI 3.1).")
    headers = {"allow": "OPTIONS", "vary": "Accept", "cache-control": "no-cache"}
    if form == WADL:
        return Response(wadl(operations, urls.service), headers=headers, media_type=WADL)
    document = openapi(operations, title="LeanPACS DICOMweb", version=__version__, server=urls.service)
    return Response(orjson.dumps(document), headers=headers, media_type=media.JSON)


def wadl(operations: Sequence[Operation], base: str) -> bytes:
    """Describe operations as a WADL document whose resources are below ``base``."""
    root = ElementTree.Element("application", {"xmlns": _NAMESPACE})
    resources = ElementTree.SubElement(root, "resources", {"base": f"{base}/"})
    known: dict[str, ElementTree.Element] = {"": resources}
    for number, operation in enumerate(operations):
        path = operation.template.strip("/")
        if path:  # the document describes all but how it is had itself
            _add_method(_resource(known, path), operation, f"{operation.name}-{number}")
    document: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return document


def _resource(known: dict[str, ElementTree.Element], path: str) -> ElementTree.Element:
    if path not in known:
        above, _, name = path.rpartition("/")
        node = ElementTree.SubElement(_resource(known, above), "resource", {"path": name})
        if name.startswith("{"):
            ElementTree.SubElement(
                node, "param", {"name": name.strip("{}"), "style": "template", "required": "true", "type": "xs:string"}
            )
        known[path] = node
    return known[path]


def _add_method(resource: ElementTree.Element, operation: Operation, identifier: str) -> None:
    method = ElementTree.SubElement(resource, "method", {"name": operation.method, "id": identifier})
    ElementTree.SubElement(method, "doc").text = f"{operation.summary} {operation.reference}".strip()
    request = ElementTree.SubElement(method, "request")
    for parameter in operation.parameters:
        if parameter.place != "path":
            ElementTree.SubElement(request, "param", {"name": parameter.name, "style": parameter.place})
    for name in operation.takes:
        ElementTree.SubElement(request, "representation", {"mediaType": name})
    for status, names in operation.gives.items():
        response = ElementTree.SubElement(method, "response", {"status": str(status)})
        for name in names:
            ElementTree.SubElement(response, "representation", {"mediaType": name})
