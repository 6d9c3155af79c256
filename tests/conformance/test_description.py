"""The whole door against its own OpenAPI description: requests drawn by Schemathesis, valid and invalid ones."""

from __future__ import annotations

import os
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, status_code_conformance

from conformance.conftest import CT, RECIPES, Door
from unit.services.dicomweb_fakes import multipart

EXAMPLES = int(os.environ.get("LEANPACS_TEST_API_EXAMPLES", "8"))
CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance]
CINE = RECIPES[4]
RELATED = 'multipart/related; type="application/dicom"; boundary=b0und'


@schemathesis.serializer("application/dicom", "multipart/related")
def _as_it_is(_context: Any, value: Any) -> bytes:
    """Bytes as they were drawn, whatever they are: nothing of what comes in may be a fault of the archive."""
    return value if isinstance(value, bytes) else repr(value).encode()


@pytest.fixture(scope="module")
def description(door: Door) -> Any:
    found = schemathesis.openapi.from_url(f"{door.origin}/openapi.json")
    return found.exclude(path_regex="^/admin")  # has a test of its own


def _held() -> st.SearchStrategy[dict[str, str]]:
    """Path variables that name something."""
    return st.sampled_from([CT, CINE, RECIPES[3]]).map(
        lambda recipe: {
            "study": recipe.study_uid,
            "series": recipe.series_uid,
            "instance": recipe.sop_uid,
            "frames": "1",
            "path": "7FE00010",
        }
    )


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE])
def test_answers_are_what_the_description_says(door: Door, description: Any, mode: GenerationMode) -> None:
    asked = set()
    for found in description.get_all_operations():
        operation = found.ok()

        @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
        @given(case=operation.as_strategy(generation_mode=mode), held=_held(), is_held=st.booleans())
        def check(case: Any, held: dict[str, str], is_held: bool) -> None:
            if is_held and case.path_parameters and case.operation.method.upper() != "DELETE":
                case.path_parameters = {name: held[name] for name in case.path_parameters}
            case.headers.pop("Authorization", None)  # here everybody may do everything
            if case.media_type == "multipart/related":
                content = case.body if isinstance(case.body, bytes) else repr(case.body).encode()
                case.body, case.headers["Content-Type"] = multipart([content]), RELATED
            case.call_and_validate(checks=CHECKS, timeout=120)

        if mode is GenerationMode.NEGATIVE and not (operation.body or operation.query or operation.path_parameters):
            continue  # nothing in such a request can be wrong
        check()
        asked.add((operation.method, operation.path))
    assert len(asked) >= 30
    assert door.get("/studies").status_code == 200
