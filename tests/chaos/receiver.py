"""A receiver of webhooks, as a process: honest, or one of the kinds that there are, until healed.

Started with its name, its port, the run's folder, and the secrets of webhooks by project as JSON.
"""

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Final

from callsheet.client.webhooks import WebhookRejected, verify
from callsheet.runtime.lifecycle import announce_ready, run_until_signalled
from tests.chaos.history import HistoryWriter, WebhookReceived
from tests.support.receiver import Received, Receiver, Reply

#: Is in the run's folder once all is healed: from then on receivers take what they get.
HEALED: Final = "healed"

_SLOW_SECONDS: Final = 0.8


def _honest(tries: int, share: int) -> Reply:
    del tries, share
    return Reply()


def _slow(tries: int, share: int) -> Reply:
    """Half of them take their time."""
    del tries
    if share % 2:
        return Reply()
    late = asyncio.Event()
    asyncio.get_running_loop().call_later(_SLOW_SECONDS, late.set)
    return Reply(after=late)


def _failing(tries: int, share: int) -> Reply:
    """A third fail twice."""
    return Reply(status=500) if share % 3 == 0 and tries <= 2 else Reply()


def _hanging(tries: int, share: int) -> Reply:
    """A fifth are never answered at first."""
    return Reply(after=asyncio.Event()) if share % 5 == 0 and tries == 1 else Reply()


def _lying(tries: int, share: int) -> Reply:
    """A third are taken, and said to be lost."""
    return Reply(cut=True) if share % 3 == 0 and tries == 1 else Reply()


def _refusing(tries: int, share: int) -> Reply:
    del tries, share
    return Reply(status=410)


#: By name: what to answer, from how often this webhook came and a number that stays its own.
MANNERS: Final[Mapping[str, Callable[[int, int], Reply]]] = {
    "receiver-honest": _honest,
    "receiver-slow": _slow,
    "receiver-failing": _failing,
    "receiver-hanging": _hanging,
    "receiver-lying": _lying,
    "receiver-refusing": _refusing,
}


class WitnessingReceiver(Receiver):
    """Writes down what came, then answers in its manner."""

    def __init__(self, name: str, *, port: int, folder: Path, secrets: Mapping[str, str]) -> None:
        super().__init__(port=port)
        self._name = name
        self._history = HistoryWriter(folder, name)
        self._healed = folder / HEALED
        self._secrets = secrets
        self._tries: Counter[str] = Counter()

    def reply_to(self, received: Received) -> Reply:
        """Return what this webhook is answered, once it is written down."""
        self._tries[received.id] += 1
        share = sha256(received.id.encode()).digest()[0]
        manner = MANNERS[self._name]
        if manner is not _refusing and self._healed.exists():
            manner = _honest
        reply = manner(self._tries[received.id], share)
        self._write(received, reply)
        return reply

    def _write(self, received: Received, reply: Reply) -> None:
        body = received.json()
        self._history.write(
            WebhookReceived(
                at=time.monotonic(),
                receiver=self._name,
                webhook_id=received.id,
                task_id=body["task_id"],
                project=body["project_id"],
                status=body["status"],
                event=body["event"],
                sequence=body["sequence"],
                attempt=body["attempt"],
                signature_valid=self._is_genuine(received, body["project_id"]),
                body_digest=sha256(received.body).hexdigest(),
                answered=0 if reply.cut else reply.status,
            )
        )

    def _is_genuine(self, received: Received, project: str) -> bool:
        try:
            verify(received.body, received.headers, self._secrets[project])
        except (WebhookRejected, KeyError):
            return False
        return True


def main() -> int:
    """Serve until SIGTERM; return the exit code."""
    name, port, folder, secrets = sys.argv[1:]

    async def serve(stop: asyncio.Event) -> None:
        async with WitnessingReceiver(
            name, port=int(port), folder=Path(folder), secrets=json.loads(secrets)
        ):
            announce_ready()
            await stop.wait()

    return run_until_signalled(serve)


if __name__ == "__main__":
    sys.exit(main())
