"""The OpenAPI document, made from the routes and the contract, and a page that shows it."""

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from google.protobuf.descriptor import MethodDescriptor
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from callsheet.gateway.beside_operations import BESIDE
from callsheet.gateway.connect import SERVICES
from callsheet.gateway.docs_page import POLICY, docs_page
from callsheet.gateway.json_schemas import ContractSchemas, Schema, reference
from callsheet.gateway.problems import PROBLEM_TYPE, encoded
from callsheet.gateway.rest_operations import JSON, OPERATIONS, Contents, Operation
from callsheet.gateway.rest_schemas import TEXT, UUID, rest_schemas

VERSION: Final = "1.0.0"

_DESCRIPTIONS: Final[Mapping[int | str, str]] = MappingProxyType(
    {201: "Made", 202: "Accepted", 204: "Done", 206: "A range", 304: "As known"}
)
_PROTO: Final = "application/proto"
_BYTES: Final[Schema] = {"type": "string", "format": "binary"}
_PATH_PARAMETER: Final = re.compile(r"\{(\w+)(?::\w+)?\}")
ABOUT: Final = (
    "Tasks over REST and Connect. Send an API key as X-API-Key or Authorization: Bearer, or sign "
    "in for a cookie. Whatever is refused is a problem of RFC 9457, whose reason is the one that "
    "gRPC gives; a refused request changed nothing."
)


class Docs:
    """Serves the document, and a page of it, without anything from elsewhere."""

    def __init__(self) -> None:
        self._document = self._page = b""

    def tell_of(self, routes: Iterable[BaseRoute]) -> None:
        """Make document and page of these routes, before anybody asks for them."""
        document = openapi_document(routes)
        self._document = encoded(document)
        self._page = docs_page(document).encode()

    def routes(self) -> list[BaseRoute]:
        """Return the routes beside the API: /docs and /openapi.json."""
        return self._routes("/docs")

    def own_routes(self) -> list[BaseRoute]:
        """Return the routes of an address of its own: the page at its root, and /openapi.json."""
        return self._routes("/")

    def _routes(self, page: str) -> list[BaseRoute]:
        return [
            Route(page, self._answer_page, methods=["GET"], include_in_schema=False),
            Route("/openapi.json", self._answer_document, methods=["GET"], include_in_schema=False),
        ]

    async def _answer_page(self, _: Request) -> Response:
        headers = {"content-security-policy": POLICY, "cache-control": "no-cache"}
        return Response(self._page, headers=headers, media_type="text/html")

    async def _answer_document(self, _: Request) -> Response:
        # It holds nothing secret, and tools of other origins read it.
        headers = {"access-control-allow-origin": "*", "cache-control": "no-cache"}
        return Response(self._document, headers=headers, media_type=JSON)


def openapi_document(routes: Iterable[BaseRoute]) -> Schema:
    """Return the document of all routes that do not ask to be left out."""
    contract, inputs = ContractSchemas(canonical=True), ContractSchemas(canonical=False)
    schemas = rest_schemas(inputs)
    known = {**OPERATIONS, **BESIDE, **_connect_operations(contract)}
    paths: dict[str, dict[str, Schema]] = {}
    for path, method, summary in _told(routes):
        operation = known.get((method, path)) or _unknown(path)
        paths.setdefault(path, {})[method.lower()] = _shown(path, method, operation, summary)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Callsheet", "version": VERSION, "description": ABOUT},
        "paths": paths,
        "components": {
            "schemas": {**schemas, **inputs.components, **contract.components},
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
        },
        "security": [{"key": []}, {"bearer": []}],
    }


def _told(routes: Iterable[BaseRoute]) -> Iterator[tuple[str, str, str]]:
    """Yield path, method and summary of everything that the document tells of."""
    for route in routes:
        if isinstance(route, Route) and route.include_in_schema:
            path = _PATH_PARAMETER.sub(r"{\1}", route.path)
            for method in sorted((route.methods or set()) - {"HEAD"}):
                yield path, method, _summary(route)


def _shown(path: str, method: str, known: Operation, summary: str) -> Schema:
    parameters = [
        *(_parameter(name, "path", _path_schema(name)) for name in _PATH_PARAMETER.findall(path)),
        *(_parameter(name, "query", schema) for name, schema in known.query.items()),
        *(_parameter(name, "header", schema) for name, schema in known.headers.items()),
    ]
    shown: Schema = {
        "tags": [known.tag],
        "summary": summary,
        "operationId": _operation_id(path, method),
        "parameters": parameters,
        "responses": _answers(known),
    }
    if known.body:
        shown["requestBody"] = {"required": known.body_required, "content": _contents(known.body)}
    if known.public:
        shown["security"] = []
    return shown


def _answers(known: Operation) -> Schema:
    found: Schema = {
        str(status): {"description": _described(status)}
        | ({"content": _contents(contents)} if contents else {})
        for status, contents in known.answers.items()
    }
    found["default"] = {
        "description": "Refused; nothing changed",
        "content": _contents(
            {PROBLEM_TYPE: reference("Problem")}
            | ({JSON: reference("ConnectError")} if known.is_connect else {})
        ),
    }
    return found


def _described(status: int | str) -> str:
    return _DESCRIPTIONS.get(status, "Answered")


def _contents(contents: Contents) -> Schema:
    return {media_type: {"schema": schema} for media_type, schema in contents.items()}


def _parameter(name: str, place: str, schema: Schema) -> Schema:
    return {"name": name, "in": place, "required": place == "path", "schema": schema}


def _path_schema(name: str) -> Schema:
    return UUID if name == "task_id" else {**TEXT, "minLength": 1}


def _operation_id(path: str, method: str) -> str:
    words = re.findall(r"[A-Za-z0-9]+", path)
    return "_".join([method.lower(), *words])


def _unknown(path: str) -> Operation:
    words = [word for word in path.split("/") if word and word not in {"api", "v1"}]
    tag = words[0] if words else "gateway"
    return Operation(tag=tag, answers={"2XX": {"*/*": {}}})


def _summary(route: Route) -> str:
    return inspect.cleandoc(route.endpoint.__doc__ or route.name).partition("\n\n")[0]


def _connect_operations(contract: ContractSchemas) -> dict[tuple[str, str], Operation]:
    """Return every method of the contract, by method and path."""
    found: dict[tuple[str, str], Operation] = {}
    for service in SERVICES.values():
        for method in service.methods:
            path = f"/{service.full_name}/{method.name}"
            found["POST", path] = _posted(contract, method)
            found["GET", path] = _got(contract, method)
    return found


def _posted(contract: ContractSchemas, method: MethodDescriptor) -> Operation:
    tag = f"connect {method.containing_service.name}"
    if method.server_streaming:
        stream = {"application/connect+json": _BYTES, "application/connect+proto": _BYTES}
        return Operation(tag=tag, body=stream, answers={200: stream}, is_connect=True)
    return Operation(
        tag=tag,
        body={JSON: contract.of(method.input_type), _PROTO: _BYTES},
        answers={200: {JSON: contract.of(method.output_type), _PROTO: _BYTES}},
        is_connect=True,
    )


def _got(contract: ContractSchemas, method: MethodDescriptor) -> Operation:
    return Operation(
        tag=f"connect {method.containing_service.name}",
        query={
            "encoding": {"enum": ["json", "proto"]},
            "message": TEXT,
            "base64": {"const": "1"},
            "connect": {"const": "v1"},
        },
        answers={200: {JSON: contract.of(method.output_type), _PROTO: _BYTES}},
        is_connect=True,
    )
