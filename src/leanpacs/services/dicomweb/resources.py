"""The resources of the DICOMweb service as a table.

References
----------
PS3.18 table 10.1.1-1 (resources), 10.4 (retrieve), 10.5 (store), 10.6 (search), 8.9 (capabilities).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from leanpacs.catalog import matchable
from leanpacs.services.dicomweb import documents, media, rendered, wadouri, zipped
from leanpacs.services.dicomweb.qido import Level
from leanpacs.services.operations import Answer, Operation, Parameter, Right
from leanpacs.transcode import colour

if TYPE_CHECKING:
    from leanpacs.services.dicomweb.app import DicomWeb

STUDY: Final = "/studies/{study}"
SERIES: Final = STUDY + "/series/{series}"
INSTANCE: Final = SERIES + "/instances/{instance}"
FRAMES: Final = INSTANCE + "/frames/{frames}"

_RELATED: Final = "multipart/related"
_UID: Final = {"type": "string", "pattern": "^[0-9.]{1,64}$"}
_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_SWITCH: Final = {"type": "string", "enum": ["true", "false"]}

_UIDS: Final = (
    Parameter("study", "Study Instance UID.", _UID, "path"),
    Parameter("series", "Series Instance UID.", _UID, "path"),
    Parameter("instance", "SOP Instance UID.", _UID, "path"),
    Parameter("frames", "Numbers of frames from 1, such as 3,1,2.", {"type": "string"}, "path"),
    Parameter("path", "Where the value is in the data set, such as 00091010.", {"type": "string"}, "path"),
)
_ACCEPT: Final = Parameter("accept", "Media types, before those of the header field (8.3.3.1).")
_CHARSET: Final = Parameter("charset", "Character sets, before those of the header field (8.3.3.2).")
_PAGING: Final = (
    Parameter("limit", "Most results in the answer.", _NUMBER),
    Parameter("offset", "How many results to leave out.", _NUMBER),
    Parameter("includefield", "Attributes to return as well, by keyword or tag, or all."),
    Parameter("fuzzymatching", "Names match by the beginnings of their words.", _SWITCH),
    Parameter("emptyvaluematching", 'Whether "" stands for no value.', _SWITCH),
    Parameter("multiplevaluematching", "Whether values are separated by a backslash.", _SWITCH),
)
_RENDERING: Final = (
    Parameter("window", "center,width,function"),
    Parameter("viewport", "width,height or width,height,left,top,region width,region height"),
    Parameter(
        "quality", "Of what is compressed with loss, from 1 to 100.", {"type": "integer", "minimum": 1, "maximum": 100}
    ),
    Parameter("annotation", "patient, technique or both: texts in the image."),
    Parameter(
        "iccprofile", "Colour space, with its profile.", {"type": "string", "enum": ["no", colour.OWN, *colour.SPACES]}
    ),
)
_SMALL: Final = tuple(one for one in _RENDERING if one.name != "annotation")
"""A thumbnail tells nothing of the patient (10.4.1.1.4)."""
_SEARCHED: Final[tuple[tuple[str, Level], ...]] = (
    ("/studies", "study"),
    ("/series", "series"),
    ("/instances", "instance"),
    (f"{STUDY}/series", "series"),
    (f"{STUDY}/instances", "instance"),
    (f"{SERIES}/instances", "instance"),
)
_RENDERED: Final = (*rendered.IMAGES, _RELATED, "video/*", *documents.FORMS)


def operations(service: DicomWeb) -> list[Operation]:
    """Return all operations, relative to the root of the service, in the order in which paths are tried."""
    return [*_capabilities(service), *_stores(service), *_searches(service), *_retrievals(service), *_deletes(service)]


def uri_service(service: DicomWeb) -> Operation:
    """Return the operation of the URI service, which stands beside the root of the others."""
    return Operation(
        "retrieve-uri",
        "GET",
        "/wado",
        service.uri,
        Right.READ,
        "One instance, as a file, an image or a text.",
        "PS3.18 9",
        wadouri.PARAMETERS,
        gives={200: (media.DICOM, *rendered.IMAGES, *documents.FORMS), 206: (media.DICOM, *documents.FORMS), 304: ()},
        refuses=(400, 404, 406, 416, 501, 503),
    )


def _capabilities(service: DicomWeb) -> list[Operation]:
    gives = {200: ("application/vnd.sun.wadl+xml", "application/json")}
    return [
        Operation(
            "capabilities",
            "OPTIONS",
            path,
            service.capabilities,
            Right.NONE,
            "What this service can do.",
            "PS3.18 8.9",
            gives=gives,
            refuses=(406,),
        )
        for path in ("", "/")
    ]


def _stores(service: DicomWeb) -> list[Operation]:
    return [
        Operation(
            "store",
            "POST",
            path,
            service.store,
            Right.WRITE,
            summary,
            "PS3.18 10.5",
            _named(path),
            takes=(_RELATED, media.DICOM),
            gives=dict.fromkeys((200, 202, 409, 503, 507), (media.DICOM_JSON, media.DICOM_XML)),
            refuses=(400, 406, 408, 415),
        )
        for path, summary in (("/studies", "Store instances."), (STUDY, "Store instances of this study."))
    ]


def _searches(service: DicomWeb) -> list[Operation]:
    return [
        Operation(
            f"search-{level}",
            "GET",
            path,
            service.search(level),
            Right.READ,
            f"Search for {'studies' if level == 'study' else level if level == 'series' else 'instances'}.",
            "PS3.18 10.6",
            (*_named(path), *_matched(level), *_PAGING, _ACCEPT, _CHARSET),
            gives={200: (media.DICOM_JSON, media.JSON, _RELATED), 204: ()},
            refuses=(400, 406, 503),
        )
        for path, level in _SEARCHED
    ]


def _retrievals(service: DicomWeb) -> list[Operation]:
    parts = (_RELATED, media.DICOM, zipped.MEDIA_TYPE)
    values = (_RELATED, media.OCTETS, "image/*", "video/*")
    found = [
        *(_read("instances", path, service.instances, "Instances.", parts) for path in (STUDY, SERIES, INSTANCE)),
        *(
            _read("metadata", f"{path}/metadata", service.metadata, "All but bulk data.", (media.DICOM_JSON, _RELATED))
            for path in (STUDY, SERIES, INSTANCE)
        ),
        _read("frames", FRAMES, service.frames, "Frames.", values),
        _read("bulk_data", f"{INSTANCE}/bulkdata/{{path:path}}", service.bulk_data, "A value.", values),
    ]
    for path in (STUDY, SERIES, INSTANCE):
        found += [
            _read("all-bulk-data", f"{path}/bulkdata", service.all_bulk_data, "All bulk data.", (_RELATED,)),
            _read("pixel-data", f"{path}/pixeldata", service.pixel_data, "All frames.", (_RELATED,)),
        ]
    for path in (STUDY, SERIES, INSTANCE, FRAMES):
        found += [
            _read("rendered", f"{path}/rendered", service.rendered, "For people to see.", _RENDERED, _RENDERING),
            _read("thumbnail", f"{path}/thumbnail", service.thumbnail, "A small image.", rendered.IMAGES, _SMALL),
        ]
    return found


def _deletes(service: DicomWeb) -> list[Operation]:
    reason = Parameter("reason", "Why, for the audit trail.")
    return [
        Operation(
            "delete",
            "DELETE",
            path,
            service.delete,
            Right.DELETE,
            "Delete what is held of it (not of the standard).",
            parameters=(*_named(path), reason),
            gives={204: ()},
            refuses=(400, 403, 404, 503),
        )
        for path in (STUDY, SERIES, INSTANCE)
    ]


def _read(
    name: str,
    path: str,
    answer: Answer,
    summary: str,
    gives: Sequence[str],
    parameters: Sequence[Parameter] = (),
) -> Operation:
    return Operation(
        f"retrieve-{name}",
        "GET",
        path,
        answer,
        Right.READ,
        summary,
        "PS3.18 10.4",
        (*_named(path), *parameters, _ACCEPT, _CHARSET),
        gives={200: gives, 206: gives, 304: ()},
        refuses=(400, 404, 406, 416, 503),
    )


def _named(path: str) -> list[Parameter]:
    return [parameter for parameter in _UIDS if f"{{{parameter.name}}}" in path or f"{{{parameter.name}:" in path]


def _matched(level: Level) -> list[Parameter]:
    """Matching keys; UIDs that the path may name are among them."""
    found: list[Parameter] = []
    for attribute in matchable(level).values():
        schema: dict[str, Any] = {"type": "string"}
        found.append(Parameter(attribute.keyword, f"Matching key, VR {attribute.vr}.", schema))
    return found
