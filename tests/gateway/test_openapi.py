"""The OpenAPI document: of every route, true of what is answered, and a page without a script."""

import asyncio
import re
from typing import Any, cast

from callsheet.client.task_types import task_types
from callsheet.gateway.aliases_background import WORK
from callsheet.gateway.connect import SERVICES
from callsheet.gateway.rest_operations import OPERATIONS
from tests.support.exploring import Explorer
from tests.support.gateways import RunningGateway
from tests.support.work import succeeded

#: Requests for each operation, good ones and bad ones each.
EXAMPLES = 4
CONNECT_EXAMPLES = 1

#: Paths that differ from `ai/analyze-content` by their name alone.
ALIKE = {f"/api/background/{path}" for path in WORK} - {"/api/background/ai/analyze-content"}


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
    # Given a task and a session, so that not all that is asked for is nowhere
    task_id = await gateway.submit(echo="x")
    await succeeded(gateway.plane.cell, task_id)
    session = (await gateway.http.post("/api/v1/sessions")).json()["session_id"]
    explorer = Explorer(
        document,
        url=gateway.url,
        # A stream that would go on for ever ends, and its first answers are what the document says.
        headers={"x-api-key": gateway.key, "connect-timeout-ms": "500"},
        ids={"task_id": task_id, "session_id": session},
    )
    operations = [each for each in explorer.operations() if each.path not in ALIKE]
    for operation in operations:
        is_connect = operation.path.startswith("/callsheet.")
        examples = CONNECT_EXAMPLES if is_connect else EXAMPLES
        await asyncio.to_thread(explorer.explore, operation, examples=examples)
    # Then every route was asked, those of Connect and the streams too
    asked = {(method.upper(), path) for method, path in explorer.asked}
    assert asked == {(each.method.upper(), each.path) for each in operations}
