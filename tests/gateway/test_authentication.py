"""Who calls: every route asks for a key before it looks at anything else."""

from uuid import uuid4

from callsheet.client.errors import ERROR_CLASSES, REASON_CLASSES
from callsheet.gateway.problems import STATUSES
from tests.support.gateways import RunningGateway

JSON = {"content-type": "application/json"}

#: A path of every kind that needs a key.
GUARDED = [
    ("POST", "/api/v1/tasks/submit"),
    ("GET", "/api/v1/tasks"),
    ("GET", f"/api/v1/tasks/{uuid4()}"),
    ("POST", f"/api/v1/tasks/{uuid4()}/cancel"),
    ("POST", f"/api/v1/tasks/{uuid4()}/retry"),
    ("GET", f"/api/v1/tasks/{uuid4()}/events"),
    ("GET", f"/api/v1/tasks/{uuid4()}/artifacts"),
    ("GET", f"/api/v1/tasks/{uuid4()}/artifacts/x.png"),
    ("POST", f"/api/v1/tasks/{uuid4()}/artifacts/x.png/link"),
    ("POST", "/api/v1/uploads"),
    ("GET", "/api/v1/uploads/x.png"),
    ("GET", "/api/v1/session"),
    ("GET", f"/task/{uuid4()}"),
    ("DELETE", f"/task/{uuid4()}"),
    ("GET", "/tasks/active"),
    ("POST", "/upload-video"),
    ("GET", "/redis/status"),
    ("POST", "/redis/cache/clear"),
    ("POST", "/api/background/ai/analyze-content"),
    ("GET", f"/api/background/status/{uuid4()}"),
    ("GET", "/api/background/tasks/active"),
    ("GET", "/api/background/performance/overview"),
    ("DELETE", f"/api/background/tasks/{uuid4()}"),
    ("POST", "/callsheet.v1.TaskService/GetTask"),
]

#: What stands where a key should be.
NO_KEYS: list[dict[str, str | bytes]] = [
    {"x-api-key": ""},
    {"x-api-key": "a b"},
    {"x-api-key": b"\xff\xfe"},
    {"authorization": "Basic dTpw"},
    {"authorization": "Bearer"},
    {"authorization": "Bearer " + "x" * 5000},
    {"cookie": "callsheet_session="},
    {"cookie": "callsheet_session=nonsense; other=1"},
]


async def test_nothing_is_answered_without_a_key_or_with_a_wrong_one(
    gateway: RunningGateway,
) -> None:
    before = await gateway.plane.written()
    for key, reason in ((None, "KEY_MISSING"), ("cs_00000000_wrong", "KEY_INVALID")):
        async with gateway.client(key) as http:
            for method, path in GUARDED:
                content = b"nonsense" if method == "POST" else None
                answer = await http.request(method, path, content=content, headers=JSON)
                assert answer.status_code == 401, (method, path, answer.text)
                if "callsheet.v1" not in path:
                    assert answer.headers["www-authenticate"].startswith("Bearer")
                    assert answer.json()["reason"] == reason
    assert await gateway.plane.written() == before


async def test_what_is_no_key_is_refused(gateway: RunningGateway) -> None:
    async with gateway.client() as http:
        for headers in NO_KEYS:
            answer = await http.get("/api/v1/tasks", headers=headers)  # pyright: ignore[reportArgumentType]  # bytes are sent as they are
            assert answer.status_code == 401, headers


async def test_a_key_is_taken_from_either_header(gateway: RunningGateway) -> None:
    async with gateway.client() as http:
        for headers in ({"x-api-key": gateway.key}, {"authorization": f"bearer {gateway.key}"}):
            assert (await http.get("/api/v1/tasks", headers=headers)).status_code == 200


def test_every_error_of_a_call_has_a_status() -> None:
    assert set(STATUSES) == {*ERROR_CLASSES.values(), *REASON_CLASSES.values()}
