"""Only a genuine, fresh webhook passes; the package standardwebhooks is the independent judge."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Judge

from callsheet.client import webhooks
from callsheet.client.webhooks import (
    BodyMalformed,
    HeaderMissing,
    SignatureInvalid,
    TimestampStale,
    WebhookRejected,
    verify,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
FIELDS = {
    "task_id": "3a2f6c1e-0000-4000-8000-000000000000",
    "status": "completed",
    "project_id": "test_project",
    "result": {
        "media_url": "https://media.example/x.png",
        "payload_media_id": None,
        "metadata": {"processing_time": 45.2, "tokens_used": 1250, "output_data": {"seed": 7}},
    },
    "error": None,
    "metadata": {"testResultId": "r1"},
}
BODY = json.dumps(FIELDS).encode()


def signed(body: bytes = BODY, *, secret: str = SECRET, at: datetime = NOON) -> dict[str, str]:
    """The headers that the judge makes."""
    return {
        "webhook-id": "e1_task_3",
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Judge(secret).sign("e1_task_3", at, body.decode()),
    }


def system_time() -> datetime:
    now = datetime.now(UTC)  # noqa: TID251 - the judge asks the system's clock and no other
    return now.replace(microsecond=0)


def test_a_webhook_that_the_judge_signed_is_read() -> None:
    webhook = verify(BODY, signed(), SECRET, now=NOON)
    assert webhook.id == "e1_task_3"
    assert webhook.time == NOON
    assert webhook.task_id == FIELDS["task_id"]
    assert webhook.status == "completed"
    assert webhook.project_id == "test_project"
    assert webhook.result is not None
    assert webhook.result.media_url == "https://media.example/x.png"
    assert webhook.result.payload_media_id is None
    assert webhook.result.metadata["output_data"] == {"seed": 7}
    assert webhook.error is None
    assert webhook.metadata == {"testResultId": "r1"}
    assert webhook.body == FIELDS


@given(echo=st.text(), key=st.binary(min_size=24, max_size=64), seconds=st.integers(0, 299))
def test_we_believe_what_the_judge_signs(echo: str, key: bytes, seconds: int) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    body = json.dumps(FIELDS | {"metadata": {"echo": echo}}).encode()
    headers = signed(body, secret=secret)
    webhook = verify(body, headers, secret, now=NOON + timedelta(seconds=seconds))
    assert webhook.metadata == {"echo": echo}


@given(body=st.binary(max_size=64).map(base64.b64encode), key=st.binary(min_size=24, max_size=64))
def test_the_judge_believes_what_we_would(body: bytes, key: bytes) -> None:
    # Given a signature made by the rule of the standard, and a clock that the judge shares
    now = system_time()
    secret = "whsec_" + base64.b64encode(key).decode()
    fields = json.dumps(FIELDS | {"metadata": {"body": body.decode()}}).encode()
    content = f"id.{int(now.timestamp())}.".encode() + fields
    digest = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    headers = {
        "webhook-id": "id",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": f"v1,{digest}",
    }
    # Then both say yes
    assert Judge(secret).verify(fields, headers) == json.loads(fields)
    assert verify(fields, headers, secret, now=now).metadata["body"] == body.decode()


def test_the_published_vector_is_reproduced() -> None:
    # Given the example of the standard, whose body is not one of ours
    headers = {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
    now = datetime.fromtimestamp(1614265330, UTC)
    # Then its signature is right, and only its body is refused
    with pytest.raises(BodyMalformed):
        verify(b'{"test": 2432232314}', headers, secret, now=now)
    with pytest.raises(SignatureInvalid):
        verify(b'{"test": 2432232315}', headers, secret, now=now)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_every_header_is_needed(name: str) -> None:
    headers = signed()
    del headers[name]
    with pytest.raises(HeaderMissing, match=name):
        verify(BODY, headers, SECRET, now=NOON)


def test_headers_may_be_in_any_letter_case() -> None:
    headers = {name.title(): value for name, value in signed().items()}
    assert verify(BODY, headers, SECRET, now=NOON).status == "completed"


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp"])
def test_what_was_signed_cannot_be_changed(name: str) -> None:
    headers = signed()
    headers[name] = headers[name][:-1] + "9"
    with pytest.raises(SignatureInvalid):
        verify(BODY, headers, SECRET, now=NOON)


@given(position=st.integers(0, len(BODY) - 1))
def test_no_byte_of_the_body_can_be_changed(position: int) -> None:
    body = bytearray(BODY)
    body[position] ^= 1
    with pytest.raises(SignatureInvalid):
        verify(bytes(body), signed(), SECRET, now=NOON)


def test_another_secret_does_not_fit() -> None:
    with pytest.raises(SignatureInvalid):
        verify(BODY, signed(), OTHER, now=NOON)


def test_while_a_secret_is_replaced_either_fits() -> None:
    # Given a receiver that knows both, and a sender that signs with both
    both = signed()
    both["webhook-signature"] += " " + signed(secret=OTHER)["webhook-signature"]
    assert verify(BODY, signed(secret=OTHER), [SECRET, OTHER], now=NOON)
    assert verify(BODY, both, OTHER, now=NOON)
    assert verify(BODY, both, SECRET, now=NOON)


@pytest.mark.parametrize(
    "noise", ["v1a,AAAA", "v2,AAAA", "v1,not base64!", "v1,", "v1", ",", "v1,ü", "v1,AAAA"]
)
def test_signatures_of_other_kinds_do_not_disturb(noise: str) -> None:
    headers = signed()
    real = headers["webhook-signature"]
    assert verify(BODY, headers | {"webhook-signature": f"{noise} {real}"}, SECRET, now=NOON)
    with pytest.raises(SignatureInvalid):
        verify(BODY, headers | {"webhook-signature": noise}, SECRET, now=NOON)


@pytest.mark.parametrize("seconds", [-300, 0, 300])
def test_within_the_tolerance_a_webhook_is_fresh(seconds: int) -> None:
    assert verify(BODY, signed(), SECRET, now=NOON + timedelta(seconds=seconds))


@pytest.mark.parametrize(("seconds", "words"), [(301, "old"), (-301, "in the future")])
def test_beyond_the_tolerance_it_is_stale(seconds: int, words: str) -> None:
    with pytest.raises(TimestampStale, match=f"301 seconds {words}"):
        verify(BODY, signed(), SECRET, now=NOON + timedelta(seconds=seconds))


def test_the_tolerance_is_the_receivers_choice() -> None:
    later = NOON + timedelta(hours=1)
    assert verify(BODY, signed(), SECRET, now=later, tolerance=timedelta(hours=2))


def test_without_a_time_the_systems_clock_is_asked() -> None:
    assert verify(BODY, signed(at=system_time()), SECRET)
    with pytest.raises(TimestampStale):
        verify(BODY, signed(at=datetime(2020, 1, 1, tzinfo=UTC)), SECRET)


@pytest.mark.parametrize("timestamp", ["noon", "-5", "1.5", "1e9", " 1", "\u0661\u0662", "9" * 13])
def test_a_timestamp_that_is_none_is_refused(timestamp: str) -> None:
    headers = signed() | {"webhook-timestamp": timestamp}
    with pytest.raises(HeaderMissing, match="not a number of seconds"):
        verify(BODY, headers, SECRET, now=NOON)


def test_a_timestamp_beyond_all_calendars_is_stale() -> None:
    headers = signed() | {"webhook-timestamp": "9" * 12}
    with pytest.raises(TimestampStale):
        verify(BODY, headers, SECRET, now=NOON)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_!!!", "whsec_a"])
def test_a_secret_that_is_none_is_an_error_of_the_receiver(secret: str) -> None:
    with pytest.raises(ValueError, match="a webhook secret is whsec_ and base64"):
        verify(BODY, signed(), secret, now=NOON)


def test_at_least_one_secret_is_needed() -> None:
    with pytest.raises(ValueError, match="at least one"):
        verify(BODY, signed(), [], now=NOON)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b"{}",
        b'{"task_id": 1, "status": "failed", "project_id": "p"}',
        b'{"task_id": "t", "status": "failed", "project_id": "p", "result": []}',
        b'{"task_id": "t", "status": "failed", "project_id": "p", "metadata": "m"}',
        b"[" * 10_000,
    ],
)
def test_a_genuine_body_that_is_none_of_ours_is_refused_as_such(body: bytes) -> None:
    with pytest.raises(BodyMalformed):
        verify(body, signed(body), SECRET, now=NOON)


def test_a_failure_has_no_result() -> None:
    failed = FIELDS | {"status": "failed", "result": None, "error": "OUT_OF_MEMORY: 9 GiB"}
    body = json.dumps(failed).encode()
    webhook = verify(body, signed(body), SECRET, now=NOON)
    assert (webhook.result, webhook.error) == (None, "OUT_OF_MEMORY: 9 GiB")


def test_a_media_id_that_is_a_number_is_read_as_text() -> None:
    body = json.dumps(FIELDS | {"result": {"payload_media_id": 17}}).encode()
    webhook = verify(body, signed(body), SECRET, now=NOON)
    assert webhook.result is not None
    assert (webhook.result.payload_media_id, webhook.result.media_url) == ("17", None)


def test_all_rejections_are_one_kind() -> None:
    kinds = {HeaderMissing, TimestampStale, SignatureInvalid, BodyMalformed}
    assert set(WebhookRejected.__subclasses__()) == kinds


def test_the_module_stands_on_the_standard_library_alone() -> None:
    modules = {
        value.__name__.partition(".")[0]
        for value in vars(webhooks).values()
        if type(value).__name__ == "module"
    }
    assert modules <= {"base64", "binascii", "hashlib", "hmac", "json", "re"}
