"""The brain that the settings name."""

from collections.abc import Callable
from datetime import timedelta

from callsheet.brain.brain import Brain
from callsheet.brain.knowledge import KnowledgeRoute
from callsheet.brain.tools import tool_names
from callsheet.brain.transport import Dialling
from callsheet.runtime.brain_settings import BrainSettings


def brain_of(
    settings: BrainSettings,
    *,
    jitter: Callable[[], float],
    time_limit: timedelta | None = None,
    in_flight: int = 64,
) -> Brain | None:
    """Return the brain, to be entered in the running event loop; None: there is none.

    *jitter* gives a chance between 0 and 1; *time_limit* of a call is the settings' unless given.

    Raises:
        OSError: CALLSHEET_BRAIN_CA_FILE cannot be read, or is none.
    """
    if settings.brain_ws_url is None:
        return None
    token = settings.brain_token.get_secret_value() if settings.brain_token is not None else ""
    limit = settings.brain_time_limit if time_limit is None else time_limit
    knowledge = None
    if settings.brain_http_url is not None:
        knowledge = KnowledgeRoute(
            settings.brain_http_url, token=token, ca_file=settings.brain_ca_file, time_limit=limit
        )
    return Brain(
        Dialling(url=settings.brain_ws_url, token=token, ca_file=settings.brain_ca_file),
        jitter=jitter,
        names=tool_names(settings.brain_tools),
        time_limit=limit,
        in_flight=in_flight,
        knowledge=knowledge,
    )
