"""What every route refuses alike: whoever adds one that refuses otherwise is told here.

The routes are those of the document, which tells of every one there is.
"""

import json
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import pytest_asyncio

from callsheet.embedded.valkey import EmbeddedValkey
from tests.support.gateways import RunningGateway, running_gateway_plane
from tests.support.pictures import PNG

#: Nothing here changes anything, so one gateway is enough for all.
pytestmark = pytest.mark.asyncio(loop_scope="module")

METHODS = ("DELETE", "GET", "PATCH", "POST", "PUT")
JSON = {"content-type": "application/json"}
CONNECT = "/callsheet."
#: Routes that look at their body only after something else than the caller, and at what.
LATE = {
    "/api/background": "most of the work that the paths name is not in this build",
}
#: What each route that takes a file takes in place of JSON.
FILES = {"/api/v1/uploads", "/upload-video"}
#: What might lead elsewhere in the place of an id.
TRICKS = ("..%2f..%2f..%2fetc%2fpasswd", "..%5c%00%0d%0aa:b")
PARAMETER = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Route:
    """One method of one path."""

    method: str
    path: str
    operation: Mapping[str, Any]

    @property
    def is_public(self) -> bool:
        """Whether it needs no key."""
        return self.operation.get("security") == []

    @property
    def takes_json(self) -> bool:
        """Whether its body is JSON, and is looked at first."""
        content = self.operation.get("requestBody", {}).get("content", {})
        is_file = "multipart/form-data" in content
        return (
            "application/json" in content and not is_file and not self.path.startswith(tuple(LATE))
        )

    def url(self, ids: Mapping[str, str]) -> str:
        """Return the path with these ids, and '-' where there is none."""
        return PARAMETER.sub(lambda found: ids.get(found[1], "-"), self.path)


@dataclass(frozen=True)
class World:
    """A gateway, its routes, and the ids of what its default project has."""

    gateway: RunningGateway
    routes: list[Route]
    ids: Mapping[str, str]

    def asked(self, *, connect: bool = False) -> Iterator[Route]:
        """Yield the routes of REST, or those of Connect."""
        return (each for each in self.routes if each.path.startswith(CONNECT) == connect)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(
    valkey_server: EmbeddedValkey, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    """The gateway of all tests here."""
    folder = tmp_path_factory.mktemp("gateway")
    async with running_gateway_plane(valkey_server.url, "every-route", folder) as gateway:
        document = (await gateway.http.get("/openapi.json")).json()
        routes = [
            Route(method.upper(), path, operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]
        session = (await gateway.http.post("/api/v1/sessions")).json()
        ids = {"task_id": await gateway.submit(), "session_id": session["session_id"]}
        yield World(gateway, routes, ids)


def reason_of(answer: httpx.Response) -> str:
    """Return the reason of a problem, or of a Connect error."""
    told = answer.json()
    return told["reason"] if "reason" in told else told["details"][0]["debug"]["reason"]


async def test_without_a_key_nothing_is_answered(world: World) -> None:
    before = await world.gateway.plane.written()
    asked = 0
    async with world.gateway.client() as nobody:
        for route in world.routes:
            if route.is_public or (route.path.startswith(CONNECT) and route.method == "GET"):
                continue
            answer = await nobody.request(route.method, route.url(world.ids), headers=JSON)
            where = (route.method, route.path, answer.text)
            if route.operation["tags"][0].startswith("connect") and answer.status_code == 415:
                continue  # a stream's refusal stands in a stream, of the media type asked for
            assert (answer.status_code, reason_of(answer)) == (401, "KEY_MISSING"), where
            asked += 1
    assert asked > 50
    assert await world.gateway.plane.written() == before


async def test_a_method_that_a_path_does_not_take_is_refused_with_those_it_does(
    world: World,
) -> None:
    taken: dict[str, set[str]] = {}
    for route in world.routes:
        taken.setdefault(route.path, set()).add(route.method)
    for path, own in taken.items():
        route = Route("", path, {})
        # An id may be any word: what has none here may be one there.
        fitting = [
            more
            for other, more in taken.items()
            if re.fullmatch(PARAMETER.sub("[^/]+", other), path)
        ]
        for method in sorted({*METHODS}.difference(*fitting)):
            answer = await world.gateway.http.request(method, route.url(world.ids))
            where = (method, path)
            assert (answer.status_code, reason_of(answer)) == (405, "METHOD_NOT_ALLOWED"), where
            allowed = {each.strip() for each in answer.headers["allow"].split(",")}
            assert allowed - {"HEAD"} <= own, where


async def test_what_is_another_projects_is_not_there(world: World) -> None:
    key = await world.gateway.new_key(projects=frozenset({"elsewhere"}))
    before = await world.gateway.plane.written()
    asked = 0
    async with world.gateway.client(key) as stranger:
        for route in world.asked():
            if route.is_public or not set(PARAMETER.findall(route.path)) & set(world.ids):
                continue
            answer = await stranger.request(route.method, route.url(world.ids))
            assert answer.status_code == 404, (route.method, route.path, answer.text)
            asked += 1
        for route in world.asked():
            named = {each["name"] for each in route.operation["parameters"]}
            if route.method != "GET" or "project_id" not in named:
                continue
            params = {"project_id": "default"}
            answer = await stranger.request("GET", route.url(world.ids), params=params)
            assert answer.status_code == 404, (route.path, answer.text)
            asked += 1
    assert asked > 20
    assert await world.gateway.plane.written() == before


#: What a body of JSON may be, what the answer is, and what it names.
BODIES: dict[str, tuple[bytes, dict[str, str], int, str, str]] = {
    "broken JSON": (b'{"a": ', JSON, 400, "JSON_MALFORMED", "line 1 column 7"),
    "no object": (b"[]", JSON, 400, "JSON_MALFORMED", "must be an object"),
    "an unknown field": (
        b'{"type": "NOTIFICATION", "nobody_knows": 1}',
        JSON,
        400,
        "FIELD_INVALID",
        "nobody_knows",
    ),
    "another media type": (
        b"{}",
        {"content-type": "text/plain"},
        415,
        "MEDIA_TYPE_UNSUPPORTED",
        "application/json",
    ),
    "a compressed body": (
        b"\x1f\x8b",
        {**JSON, "content-encoding": "gzip"},
        415,
        "ENCODING_UNSUPPORTED",
        "content-encoding",
    ),
    "too much": (b'{"a":"' + b"x" * 5_000_000 + b'"}', JSON, 413, "BODY_TOO_LARGE", "bytes"),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_bad_body_is_refused_alike(world: World, name: str) -> None:
    content, headers, status, reason, detail = BODIES[name]
    before = await world.gateway.plane.written()
    asked = 0
    async with world.gateway.client() as browser:
        for route in world.asked():
            if not route.takes_json:
                continue
            http = browser if route.path == "/api/v1/session" else world.gateway.http
            answer = await http.request(
                route.method, route.url(world.ids), content=content, headers=headers
            )
            told = (answer.status_code, reason_of(answer))
            if route.path == "/api/v1/rooms/messages" and reason == "JSON_MALFORMED":
                assert told[0] == 400  # an envelope: its own reader says where it is wrong
            else:
                assert told == (status, reason), (route.path, answer.text)
                said = json.dumps(answer.json())
                assert detail in said, (route.path, said)
            asked += 1
    assert asked >= 9
    assert await world.gateway.plane.written() == before


async def test_no_file_is_taken_compressed(world: World) -> None:
    for path in FILES:
        headers = {"content-type": "image/png", "content-encoding": "gzip"}
        answer = await world.gateway.http.post(path, content=PNG, headers=headers)
        assert (answer.status_code, reason_of(answer)) == (415, "ENCODING_UNSUPPORTED")


async def test_every_method_of_the_contract_refuses_a_bad_body(world: World) -> None:
    """Over Connect: broken JSON, an unknown field by its name, and what is packed."""
    asked = 0
    for route in world.asked(connect=True):
        if route.method != "POST" or "application/json" not in _body(route):
            continue  # a stream tells its refusals in a stream
        for content, headers, status in (
            (b'{"a": ', {}, 400),
            (b'{"nobodyKnows": 1}', {}, 400),
            (b"\x1f\x8b", {"content-encoding": "gzip"}, 415),
        ):
            answer = await world.gateway.http.post(
                route.path, content=content, headers={**JSON, **headers}
            )
            assert answer.status_code == status, (route.path, content[:20], answer.text)
            if content.startswith(b'{"nobody'):
                assert "nobodyKnows" in answer.json()["message"], route.path
            asked += 1
    assert asked > 60
    path = "/callsheet.v1.TaskService/SubmitTasks"
    answer = await world.gateway.http.post(path, content=bytes(5_000_000), headers=JSON)
    assert (answer.status_code, reason_of(answer)) == (413, "BODY_TOO_LARGE")


def _body(route: Route) -> Mapping[str, Any]:
    return route.operation.get("requestBody", {}).get("content", {})


async def test_a_path_never_leads_out_of_itself(world: World) -> None:
    """Not with dots, not with their codes, not with a NUL, and no file of this machine is told."""
    for route in world.asked():
        for name in PARAMETER.findall(route.path):
            for trick in TRICKS:
                url = route.url({**world.ids, name: trick})
                answer = await world.gateway.http.request(route.method, url, headers=JSON)
                where = (route.method, url, answer.text[:200])
                assert answer.status_code in {400, 403, 404, 415, 501}, where
                assert "root:" not in answer.text
                assert "a" not in answer.headers, where
