"""One try of one delivery: from the facts of its task to what the endpoint answered."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, cast

import h11
import structlog

from callsheet.ledger.deliveries import ClaimedDelivery
from callsheet.ledger.errors import LedgerError, UnknownVersion
from callsheet.ledger.model import Task
from callsheet.ledger.store import Store
from callsheet.runtime.trace import TRACEPARENT, parse_traceparent
from callsheet.sidecar.body import final_body
from callsheet.sidecar.dialling import AddressRefused
from callsheet.sidecar.history import task_as_of
from callsheet.sidecar.posting import Answer, Poster
from callsheet.sidecar.retries import parse_retry_after
from callsheet.sidecar.signing import signed_headers
from callsheet.sidecar.targets import Target, TargetRefused, parse_target

_USER_AGENT: Final = "callsheet-sidecar/1"
_GONE: Final = 410

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one try came to: delivered when there is no error.

    *hopeless*: no further try can do better. *retry_after*: what the endpoint asked for.
    """

    status: int = 0
    error: str = ""
    hopeless: bool = False
    retry_after: timedelta | None = None


class Sender:
    """Makes tries. *secret_of* returns the webhook secret of a project."""

    def __init__(
        self,
        store: Store,
        poster: Poster,
        *,
        secret_of: Callable[[str], str],
        allow_http: bool,
    ) -> None:
        self._store = store
        self._poster = poster
        self._secret_of = secret_of
        self._allow_http = allow_http

    async def send(self, claimed: ClaimedDelivery) -> Outcome:
        """Try once; whatever goes wrong is the outcome. Raises LedgerError only."""
        try:
            return await self._send(claimed)
        except UnknownVersion as error:
            return Outcome(error=str(error))
        except LedgerError:
            raise
        except (TargetRefused, AddressRefused) as error:
            return Outcome(error=str(error), hopeless=isinstance(error, TargetRefused))
        except TimeoutError:
            return Outcome(error="no answer within the time limit")
        except (OSError, h11.RemoteProtocolError) as error:
            return Outcome(error=f"{type(error).__name__}: {error}".removesuffix(": "))
        except Exception as error:  # noqa: BLE001  # a defect of ours must use up tries, not repeat without end
            _log.exception("webhook_try_crashed", webhook_id=claimed.record.id)
            return Outcome(error=f"the sidecar failed: {type(error).__name__}")

    async def _send(self, claimed: ClaimedDelivery) -> Outcome:
        record = claimed.record
        target = self._target(record.url)
        task = await task_as_of(self._store, record.task_id, record.sequence)
        if task is None:
            return Outcome(error="the task is no longer kept, and so has no body", hopeless=True)
        try:
            body = final_body(task)
        except ValueError as error:
            return Outcome(error=str(error))
        answer = await self._poster.post(target, self._headers(claimed, task, body), body)
        return _outcome(answer, claimed)

    def _target(self, url: str) -> Target:
        target = parse_target(url)
        if not target.tls and not self._allow_http:
            raise TargetRefused("the URL is not https, and the settings ask for it")
        return target

    def _headers(self, claimed: ClaimedDelivery, task: Task, body: bytes) -> dict[str, str]:
        secret = self._secret_of(task.submission.project)
        headers = signed_headers(secret, webhook_id=claimed.record.id, time=claimed.time, body=body)
        headers |= {"content-type": "application/json", "user-agent": _USER_AGENT}
        trace = parse_traceparent(task.submission.trace_parent)
        if trace is not None:
            headers[TRACEPARENT] = str(trace.child())
        return headers


def _outcome(answer: Answer, claimed: ClaimedDelivery) -> Outcome:
    if 200 <= answer.status < 300:
        return Outcome(answer.status)
    if answer.status == _GONE:
        return Outcome(answer.status, "the endpoint answered 410: it is gone", hopeless=True)
    told = "; redirects are not followed" if 300 <= answer.status < 400 else ""
    return Outcome(
        answer.status,
        f"the endpoint answered {answer.status}{told}",
        retry_after=parse_retry_after(answer.retry_after, now=claimed.time),
    )
