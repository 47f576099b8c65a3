"""One try of one delivery: from the facts of its task to what the endpoint answered."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Final, NamedTuple, cast

import structlog

from callsheet.ledger.deliveries import ClaimedDelivery
from callsheet.ledger.errors import UnknownVersion
from callsheet.runtime.targets import Target, TargetRefused, parse_target
from callsheet.runtime.trace import TRACEPARENT, parse_traceparent
from callsheet.sidecar.body import FactsGone, Story, body_of, story_of
from callsheet.sidecar.credentials import Credentials
from callsheet.sidecar.dialling import AddressRefused, ResolverBusy
from callsheet.sidecar.lines import AnswerUnreadable
from callsheet.sidecar.posting import Answer, Poster
from callsheet.sidecar.retries import parse_retry_after
from callsheet.sidecar.signing import signed_headers

API_KEY: Final = "x-api-key"

_USER_AGENT: Final = "callsheet-sidecar/1"
_REQUEST_TIMEOUT: Final = 408
_GONE: Final = 410
_TOO_MANY_REQUESTS: Final = 429

_log = cast("structlog.typing.FilteringBoundLogger", structlog.get_logger())


class Outcome(NamedTuple):
    """What one try came to: delivered when there is no error.

    *hopeless*: no further try can do better. *retry_after*: what the endpoint asked for. *answers*:
    whether the endpoint does its work; None: it was not asked. *is_gone*: it wants nothing more.
    *put_off*: no try was made, for a reason of our own, and none is used up.
    """

    status: int = 0
    error: str = ""
    hopeless: bool = False
    retry_after: timedelta | None = None
    answers: bool | None = None
    is_gone: bool = False
    put_off: bool = False


class Sender:
    """Makes tries; what it needs of the ledger came with the claim."""

    def __init__(self, poster: Poster, credentials: Credentials, *, allow_http: bool) -> None:
        self._poster = poster
        self._credentials = credentials
        self._allow_http = allow_http

    async def send(self, claimed: ClaimedDelivery) -> Outcome:
        """Try once; whatever goes wrong is the outcome."""
        try:
            return await self._send(claimed)
        except FactsGone:
            return Outcome(error="the task is no longer kept, and so has no body", hopeless=True)
        except UnknownVersion as error:
            return Outcome(error=str(error))
        except (TargetRefused, AddressRefused) as error:
            return Outcome(error=str(error), hopeless=isinstance(error, TargetRefused))
        except ResolverBusy as error:
            return Outcome(error=str(error), put_off=True)
        except TimeoutError:
            return Outcome(error="no answer within the time limit", answers=False)
        except (OSError, AnswerUnreadable) as error:
            told = f"{type(error).__name__}: {error}".removesuffix(": ")
            return Outcome(error=told, answers=False)
        except ValueError as error:
            return Outcome(error=str(error))
        except Exception as error:  # noqa: BLE001  # a defect of ours must use up tries, not repeat without end
            _log.exception("webhook_try_crashed", webhook_id=claimed.record.id)
            return Outcome(error=f"the sidecar failed: {type(error).__name__}")

    async def _send(self, claimed: ClaimedDelivery) -> Outcome:
        record = claimed.record
        target = self._target(record.url)
        story = story_of(record, claimed.facts)
        body = body_of(record, story)
        headers = signed_headers(
            self._credentials.signing_keys(record.project),
            webhook_id=record.id,
            time=claimed.time,
            body=body,
        )
        headers += self._other_headers(record.project, target, story)
        answer = await self._poster.post(target, headers, body, project=record.project)
        return _outcome(answer, claimed)

    def _target(self, url: str) -> Target:
        target = parse_target(url)
        if not target.tls and not self._allow_http:
            raise TargetRefused("the URL is not https, and the settings ask for it")
        return target

    def _other_headers(
        self, project: str, target: Target, story: Story
    ) -> Iterator[tuple[str, str]]:
        yield "content-type", "application/json"
        yield "user-agent", _USER_AGENT
        # By the very origin that is dialled, and no redirect is followed: nobody else sees it.
        key = self._credentials.api_key(project, target.origin)
        if key is not None:
            yield API_KEY, key
        trace = parse_traceparent(story.first.task_submitted.trace_parent)
        if trace is not None:
            yield TRACEPARENT, str(trace.child())


def _outcome(answer: Answer, claimed: ClaimedDelivery) -> Outcome:
    status = answer.status
    if 200 <= status < 300:
        return Outcome(status, answers=True)
    if status == _GONE:
        error = "the endpoint answered 410: it is gone"
        return Outcome(status, error, hopeless=True, answers=True, is_gone=True)
    told = "; redirects are not followed" if 300 <= status < 400 else ""
    return Outcome(
        status,
        f"the endpoint answered {status}{told}",
        retry_after=parse_retry_after(answer.retry_after, now=claimed.time),
        answers=status < 500 and status not in (_REQUEST_TIMEOUT, _TOO_MANY_REQUESTS),
    )
