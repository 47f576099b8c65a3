"""Who sees an API key, and what signs: never another address, and from the next claim on."""

import pytest
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
from structlog.testing import capture_logs

from callsheet.runtime.secrets import seal, webhook_secret
from callsheet.runtime.targets import TargetRefused, parse_target
from callsheet.sidecar.credentials import Credentials
from tests.support.receiver import Received, Receiver, Reply
from tests.support.sidecars import MASTER_KEY, WebhookCell, couriers

API_KEY = "cms-key-0123456789"
SEALED = seal(MASTER_KEY, API_KEY)


def key_of(received: Received) -> str | None:
    return received.headers.get("x-api-key")


def origin(receiver: Receiver) -> str:
    return parse_target(receiver.url).origin


async def one_of(cell: WebhookCell, receiver: Receiver, *, url: str = "") -> Received:
    """Return the webhook of a new task, sent to the receiver."""
    before = len(receiver.received)
    task = await cell.cancelled(url or receiver.url)
    received = await receiver.arrived(before + 1)
    await cell.settled(task)
    return received[before]


async def test_a_registered_origin_gets_the_key_and_no_other_one_does(
    webhooks: WebhookCell,
) -> None:
    await webhooks.registry.add_origin("elsewhere", "http://127.0.0.1:1", sealed_key=SEALED)
    async with Receiver() as cms, Receiver() as other, couriers(webhooks):
        assert key_of(await one_of(webhooks, cms)) is None
        # From the next claim on
        await webhooks.registry.add_origin("default", origin(cms), sealed_key=SEALED)
        assert key_of(await one_of(webhooks, cms)) == API_KEY
        # Another port, whoever chose it
        assert key_of(await one_of(webhooks, other)) is None
        # Another name of the same machine
        by_name = cms.url.replace("127.0.0.1", "localhost")
        assert key_of(await one_of(webhooks, cms, url=by_name)) is None
        # A new key in its place, and none any more
        newer = seal(MASTER_KEY, "cms-key-newer")
        await webhooks.registry.add_origin("default", origin(cms), sealed_key=newer)
        assert key_of(await one_of(webhooks, cms)) == "cms-key-newer"
        await webhooks.registry.remove_origin("default", origin(cms))
        assert key_of(await one_of(webhooks, cms)) is None


async def test_another_projects_webhooks_to_the_same_origin_carry_no_key(
    webhooks: WebhookCell,
) -> None:
    async with Receiver() as cms, couriers(webhooks):
        await webhooks.registry.add_origin("elsewhere", origin(cms), sealed_key=SEALED)
        assert key_of(await one_of(webhooks, cms)) is None


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_takes_the_key_nowhere(webhooks: WebhookCell, status: int) -> None:
    async with Receiver() as thief:
        redirect = Reply(status, headers={"location": thief.url})
        async with Receiver(redirect) as cms, couriers(webhooks):
            await webhooks.registry.add_origin("default", origin(cms), sealed_key=SEALED)
            assert key_of(await one_of(webhooks, cms)) == API_KEY
        assert (thief.connections, thief.received) == (0, [])


async def test_the_key_is_in_no_log_and_no_list(webhooks: WebhookCell) -> None:
    with capture_logs() as logged:
        async with Receiver(Reply(500), Reply()) as cms, couriers(webhooks):
            await webhooks.registry.add_origin("default", origin(cms), sealed_key=SEALED)
            task = await webhooks.cancelled(cms.url)
            await webhooks.settled(task, tries=2)
    assert API_KEY not in str(logged)
    assert API_KEY not in str(await webhooks.of_task(task.id))


@pytest.mark.parametrize(
    "url",
    [
        "http://cms.example/hook",
        "http://cms.example:443/hook",
        "https://cms.example:8443/hook",
        "https://cms.example./hook",
        "https://cms.example.evil.example/hook",
        "https://evil.example/cms.example",
        "https://evil.example/?https://cms.example",
        "https://evil.example#@cms.example/",
        "https://evil.example\\@cms.example/",
        "https://cms.example@evil.example/",
        "https://cms.example:443@evil.example/",
        "https://www.cms.example/",
        "https://cms-example/",
        "https://cmsexample/",
        "https://cms.examp1e/",
        "https://cms.ехample/",  # noqa: RUF001  # the disguise under test
        "https://cms.example%00.evil.example/",
        "https://cms.example%2eevil.example/",
        "https://cms.example\t.evil.example/",
        "https://[::1]/",
        "ftp://cms.example/",
        "cms.example",
        "//cms.example/",
    ],
)
async def test_an_address_that_looks_like_the_registered_one_never_sees_the_key(
    webhooks: WebhookCell, url: str
) -> None:
    await webhooks.registry.add_origin("default", "https://cms.example:443", sealed_key=SEALED)
    credentials = Credentials(webhooks.registry, master_key=MASTER_KEY)
    await credentials.refresh(1)
    assert credentials.api_key("default", "https://cms.example:443") == API_KEY
    try:
        dialled = parse_target(url)
    except TargetRefused:
        return  # nobody is dialled
    assert credentials.api_key("default", dialled.origin) is None


@pytest.mark.parametrize(
    "url", ["https://cms.example", "https://CMS.example/a/b?c", "https://cms.example:443/#x"]
)
def test_the_same_origin_in_another_spelling_is_the_same(url: str) -> None:
    assert parse_target(url).origin == "https://cms.example:443"


async def test_a_key_sealed_with_another_master_key_is_not_sent(webhooks: WebhookCell) -> None:
    await webhooks.registry.add_origin("default", "https://a:443", sealed_key=seal(b"n" * 32, "x"))
    await webhooks.registry.add_origin("default", "https://b:443", sealed_key=SEALED)
    credentials = Credentials(webhooks.registry, master_key=MASTER_KEY)
    with capture_logs() as logged:
        await credentials.refresh(2)
    assert credentials.api_key("default", "https://a:443") is None
    assert credentials.api_key("default", "https://b:443") == API_KEY
    assert "origin_key_unreadable" in {line["event"] for line in logged}


async def test_a_rotated_secret_signs_beside_the_old_one_until_it_is_finished(
    webhooks: WebhookCell,
) -> None:
    old, new = (webhook_secret(MASTER_KEY, "default", version) for version in (1, 2))

    def accepts(secret: str, received: Received) -> bool:
        try:
            Webhook(secret).verify(received.body, dict(received.headers))
        except WebhookVerificationError:
            return False
        return True

    async with Receiver() as receiver, couriers(webhooks, count=2):
        before = await one_of(webhooks, receiver)
        assert await webhooks.registry.rotate_secret("default") == (2, 1)
        between = await one_of(webhooks, receiver)
        assert await webhooks.registry.finish_rotation("default") == (2,)
        after = await one_of(webhooks, receiver)
    verdicts = [(accepts(old, each), accepts(new, each)) for each in (before, between, after)]
    assert verdicts == [(True, False), (True, True), (False, True)]
