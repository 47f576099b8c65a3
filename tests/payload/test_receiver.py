"""The receiver that the documentation hands out: this very file runs in a real PayloadCMS here."""

import asyncio
import json
import subprocess
import uuid
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from standardwebhooks import Webhook

from callsheet.runtime.secrets import webhook_secret
from tests.support.payload_cms import REPOSITORY, SECRETS, PayloadCms, node, put_together

NOON = datetime(2027, 3, 1, 12, tzinfo=UTC)


def instant(after: timedelta) -> str:
    """Return the moment so long after noon, as webhooks have it."""
    return (NOON + after).isoformat(timespec="microseconds").replace("+00:00", "Z")


class Sender:
    """Posts signed webhooks, with a library that knows nothing of us."""

    def __init__(self, payload: PayloadCms, http: httpx.AsyncClient) -> None:
        self.payload = payload
        self.http = http
        self.task_id = str(uuid.uuid4())

    def body(self, sequence: int, event: str = "completed", **changes: object) -> dict[str, Any]:
        """Return the body that tells of a fact; each is a second later than the one before."""
        status = event if event in {"queued", "completed", "failed"} else "processing"
        return {
            "task_id": self.task_id,
            "status": status,
            "project_id": "default",
            "result": None,
            "error": None,
            "metadata": {"shot": "12a"},
            "event": event,
            "sequence": sequence,
            "attempt": 1,
            "occurred_at": instant(timedelta(seconds=sequence)),
            **changes,
        }

    async def send(
        self,
        body: Mapping[str, Any] | bytes,
        *,
        webhook_id: str = "",
        secrets: tuple[str, ...] = SECRETS[:1],
        now: datetime | None = None,
    ) -> httpx.Response:
        """Post a body, signed with each of the secrets."""
        if not webhook_id:
            assert not isinstance(body, bytes)
            webhook_id = f"e1_{self.task_id}_{body['sequence']}"
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        time = now or datetime.now(UTC)  # noqa: TID251  # the receiver compares with its own clock
        signatures = [
            Webhook(secret).sign(webhook_id, time, content.decode()) for secret in secrets
        ]
        headers = {
            "content-type": "application/json",
            "webhook-id": webhook_id,
            "webhook-timestamp": str(int(time.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        return await self.http.post(self.payload.webhooks, content=content, headers=headers)

    async def outcome(self, body: Mapping[str, Any], **how: Any) -> str:  # noqa: ANN401  # as send takes it
        """Return what the receiver did with a webhook that it accepted."""
        answer = await self.send(body, **how)
        assert answer.status_code == 200, answer.text
        return answer.json()["outcome"]

    @property
    def document(self) -> dict[str, Any] | None:
        """The document of the task."""
        return self.payload.task(self.task_id)


@pytest.fixture
async def sender(payload: PayloadCms) -> AsyncIterator[Sender]:
    async with httpx.AsyncClient(timeout=30) as http:
        yield Sender(payload, http)


async def test_a_task_gets_a_document_that_follows_its_webhooks(sender: Sender) -> None:
    assert await sender.outcome(sender.body(1, "queued")) == "applied"
    assert await sender.outcome(sender.body(2, "started")) == "applied"
    result: dict[str, Any] = {
        "media_url": "https://cdn.example/a.png",
        "payload_media_id": None,
        "metadata": {},
    }
    assert await sender.outcome(sender.body(3, result=result)) == "applied"
    document = sender.document
    assert document is not None
    assert (document["status"], document["sequence"]) == ("completed", 3)
    assert document["mediaUrl"] == "https://cdn.example/a.png"
    assert (document["result"], document["metadata"]) == (result, {"shot": "12a"})
    assert (document["project"], document["epoch"], document["media"]) == ("default", "e1", None)


async def test_the_error_of_a_failed_task_is_kept(sender: Sender) -> None:
    error = {"reason": "INVALID_INPUT", "message": "the prompt has no words", "retryable": False}
    await sender.outcome(sender.body(3, "failed", error=error))
    document = sender.document
    assert document is not None
    assert (document["status"], document["error"]) == ("failed", error)


async def test_a_webhook_that_comes_again_changes_nothing(sender: Sender) -> None:
    await sender.outcome(sender.body(3))
    before = sender.document
    assert await sender.outcome(sender.body(3)) == "duplicate"
    assert sender.document == before


async def test_a_webhook_that_comes_often_at_once_is_taken_once(sender: Sender) -> None:
    outcomes = await asyncio.gather(*(sender.outcome(sender.body(3)) for _ in range(8)))
    assert sorted(outcomes) == ["applied", *["duplicate"] * 7]


async def test_an_older_webhook_sets_nothing_back(sender: Sender) -> None:
    await sender.outcome(sender.body(3))
    before = sender.document
    assert await sender.outcome(sender.body(2, "started")) == "stale"
    assert sender.document == before


async def test_webhooks_in_any_order_leave_the_newest(sender: Sender) -> None:
    bodies = [sender.body(sequence, "started") for sequence in (4, 2, 5, 1, 3)]
    await asyncio.gather(*(sender.outcome(body) for body in bodies))
    document = sender.document
    assert document is not None
    assert document["sequence"] == 5


async def test_progress_is_ordered_by_its_time_among_webhooks_of_one_sequence(
    sender: Sender,
) -> None:
    def progress(micros: int) -> dict[str, Any]:
        time = instant(timedelta(seconds=2, microseconds=micros))
        return sender.body(2, "progress", occurred_at=time)

    await sender.outcome(sender.body(2, "started"))
    for micros, outcome in ((400_002, "applied"), (400_001, "stale"), (400_900, "applied")):
        webhook_id = f"e1_{sender.task_id}_2-{micros}"
        assert await sender.outcome(progress(micros), webhook_id=webhook_id) == outcome


async def test_after_the_ledger_was_restored_the_later_webhook_counts(sender: Sender) -> None:
    """A sequence of one epoch says nothing of one in another."""
    await sender.outcome(sender.body(5))
    restored = sender.body(3, occurred_at=instant(timedelta(hours=1)))
    assert await sender.outcome(restored, webhook_id=f"e2_{sender.task_id}_3") == "applied"
    late = sender.body(6)
    assert await sender.outcome(late, webhook_id=f"e1_{sender.task_id}_6") == "stale"


async def test_either_signature_will_do_while_the_secret_is_being_replaced(sender: Sender) -> None:
    old, new = SECRETS
    await sender.outcome(sender.body(1, "queued"), secrets=(old,))
    await sender.outcome(sender.body(2, "started"), secrets=(new,))
    # Two signatures, of which the receiver knows the second alone
    unknown = webhook_secret(b"the master key of somebody else!", "default", 1)
    await sender.outcome(sender.body(3), secrets=(unknown, new))
    document = sender.document
    assert document is not None
    assert document["sequence"] == 3


async def test_what_nobody_with_the_secret_signed_is_refused(sender: Sender) -> None:
    forged = webhook_secret(b"the master key of somebody else!", "default", 1)
    hour = timedelta(hours=1)
    now = datetime.now(UTC)  # noqa: TID251  # the receiver compares with its own clock
    answers = [
        await sender.send(sender.body(3), secrets=(forged,)),
        await sender.send(sender.body(3), now=now - hour),
        await sender.send(sender.body(3), now=now + hour),
        await sender.http.post(sender.payload.webhooks, json=sender.body(3)),
    ]
    genuine = await sender.send(sender.body(3))
    headers = {k: v for k, v in genuine.request.headers.items() if k.startswith("webhook-")}
    for changed in (
        {"webhook-id": f"e1_{sender.task_id}_4"},
        {"webhook-timestamp": str(int(headers["webhook-timestamp"]) + 1)},
        {"webhook-signature": headers["webhook-signature"].replace("v1,", "v2,")},
        {"webhook-signature": "v1,"},
    ):
        tampered = {**headers, **changed}
        content = genuine.request.content
        answers.append(
            await sender.http.post(sender.payload.webhooks, content=content, headers=tampered)
        )
    content = genuine.request.content.replace(b"completed", b"forgotten")
    answers.append(
        await sender.http.post(sender.payload.webhooks, content=content, headers=headers)
    )
    assert [answer.status_code for answer in answers] == [401] * 9
    document = sender.document
    assert document is not None
    assert document["status"] == "completed"


@pytest.mark.parametrize("body", [b"{}", b"nonsense", b"[]", b"null", b'{"task_id": "x"}'])
async def test_what_is_genuine_but_no_webhook_is_refused(sender: Sender, body: bytes) -> None:
    answer = await sender.send(body, webhook_id=f"e1_{uuid.uuid4()}_1")
    assert answer.status_code == 400


async def test_a_body_that_is_far_too_large_is_refused_unread(sender: Sender) -> None:
    answer = await sender.send(b" " * (2 * 1024 * 1024), webhook_id="e1_x_1")
    assert answer.status_code == 413


async def test_media_that_is_gone_does_not_keep_a_webhook_out(sender: Sender) -> None:
    result: dict[str, Any] = {
        "media_url": "https://cdn.example/a.png",
        "payload_media_id": "99999",
        "metadata": {},
    }
    assert await sender.outcome(sender.body(3, result=result)) == "applied"
    document = sender.document
    assert document is not None
    assert document["media"] is None


async def test_nobody_writes_the_documents_of_tasks_by_hand(sender: Sender) -> None:
    answer = await sender.http.post(
        f"{sender.payload.url}/callsheet-tasks", json={"taskId": "x", "sequence": 1}
    )
    assert answer.status_code == 403


def test_the_receiver_is_right_by_payloads_own_types(installed: None, tmp_path: Path) -> None:
    put_together(tmp_path / "cms")
    config = REPOSITORY / "tests" / "payload" / "tsconfig.json"
    (tmp_path / "cms" / "tsconfig.json").write_text(config.read_text())
    done = subprocess.run(
        node("node_modules/typescript/bin/tsc", "-p", "."),
        cwd=tmp_path / "cms",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "")
