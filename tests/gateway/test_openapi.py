"""The OpenAPI document: of every route, true of what is answered, and a page without a script."""

import asyncio
import re
from contextlib import suppress
from typing import Any, cast

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.specs.openapi import checks

from callsheet.client.task_types import task_types
from callsheet.gateway.aliases_background import WORK
from callsheet.gateway.connect import SERVICES
from callsheet.gateway.rest_operations import OPERATIONS
from tests.support.gateways import RunningGateway

#: Requests for each operation, good ones and bad ones each.
EXAMPLES = 2
#: What may be answered with a server error: work that this build cannot do.
UNAVAILABLE = (501, "TASK_TYPE_UNAVAILABLE")

#: Paths that differ from `ai/analyze-content` by their name alone.
ALIKE = {f"/api/background/{path}" for path in WORK} - {"/api/background/ai/analyze-content"}

#: What an answer is held to; schemathesis leaves the types of its checks open.
CHECKS = [
    getattr(checks, name)
    for name in (
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
]


async def document_of(gateway: RunningGateway) -> dict[str, Any]:
    """Return the document, which anybody may read."""
    async with gateway.client() as nobody:
        answer = await nobody.get("/openapi.json")
        assert answer.status_code == 200
        return cast("dict[str, Any]", answer.json())


async def test_the_document_tells_of_every_route(gateway: RunningGateway) -> None:
    document = await document_of(gateway)
    told = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    assert set(OPERATIONS) - told == set()
    for service in SERVICES.values():
        for method in service.methods:
            assert ("POST", f"/{service.full_name}/{method.name}") in told
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]


async def test_the_document_has_the_rules_of_every_input(gateway: RunningGateway) -> None:
    schemas = (await document_of(gateway))["components"]["schemas"]
    for kind in task_types().values():
        assert kind.input_class.DESCRIPTOR.name in schemas
    image = schemas["GenerateImageInput"]["properties"]
    assert image["prompt"] == {"type": "string", "minLength": 1, "maxLength": 2000}
    assert (image["width"]["minimum"], image["width"]["maximum"]) == (64, 2048)
    assert "SCHEDULER_EULER" in image["scheduler"]["enum"]


async def test_every_reference_leads_somewhere(gateway: RunningGateway) -> None:
    document = await document_of(gateway)
    schemas = document["components"]["schemas"]
    found = set(re.findall(r"#/components/schemas/([\w.]+)", str(document)))
    assert found - set(schemas) == set()


async def test_the_page_runs_nothing_and_asks_nobody_else(gateway: RunningGateway) -> None:
    async with gateway.client() as nobody:
        answer = await nobody.get("/docs")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"].startswith("default-src 'none'; style-src 's")
    assert "<script" not in answer.text
    assert re.findall(r"(?:src|href)=\"(?!/openapi.json\")", answer.text) == []
    assert "/api/v1/tasks/submit" in answer.text


async def test_what_is_answered_is_what_the_document_says(gateway: RunningGateway) -> None:
    """Schemathesis makes requests of the document, good and bad, and holds the answers to it."""
    document = await document_of(gateway)
    await asyncio.to_thread(_explore, document, gateway.url, gateway.key)


def _explore(document: dict[str, Any], url: str, key: str) -> None:
    schema = cast("Any", schemathesis.openapi.from_dict(document))
    session = requests.Session()
    session.trust_env = False
    for result in schema.get_all_operations():
        operation = result.ok()
        if operation.path.startswith("/callsheet.") or operation.path.endswith("/events"):
            continue  # Connect has tests of its own; a stream has no end of its own
        if operation.path in ALIKE:
            continue
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            _explore_operation(operation.as_strategy(mode), url, key, session)


def _explore_operation(cases: Any, url: str, key: str, session: requests.Session) -> None:  # noqa: ANN401  # a strategy of cases
    @given(cases)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=cast("list[HealthCheck]", list(HealthCheck)),
    )
    def explore(case: Any) -> None:  # noqa: ANN401  # a case of whichever schema
        answer = case.call(base_url=url, headers={"x-api-key": key}, session=session)
        case.validate_response(answer, checks=CHECKS)
        if answer.status_code >= 500:
            assert (answer.status_code, answer.json()["reason"]) == UNAVAILABLE

    with suppress(Unsatisfiable):  # where nothing can be sent, nothing can be wrong with it
        explore()
