"""Why the edge itself refuses a call, before or instead of the ledger.

EdgeRefusal
├── MessageMalformed    the request's bytes are no message of the contract
├── DeadlinePassed      the call took longer than a call may
├── ServiceUnknown      a health check names a service that is not served here
├── ShuttingDown        this server is about to end; another one, or the next, answers
├── WatchersFull        as many watch many tasks as this server takes
├── ProjectWatchersFull as many watch the tasks of one project as this server takes of one
└── Defect              something went wrong that is nobody's fault but ours
"""

from datetime import timedelta


class EdgeRefusal(Exception):
    """The edge refused the call."""


class MessageMalformed(EdgeRefusal):
    """The request's bytes are no message of the contract."""

    def __init__(self, message: str) -> None:
        super().__init__(f"the request is not a well-formed {message}")
        self.message = message


class DeadlinePassed(EdgeRefusal):
    """The call took longer than a call may. A write may have happened; repeat it with its id."""

    def __init__(self, limit: timedelta) -> None:
        seconds = f"{limit.total_seconds():g}"
        super().__init__(f"the call did not end within {seconds} seconds")
        self.seconds = seconds


class ServiceUnknown(EdgeRefusal):
    """A health check names a service that is not served here."""

    def __init__(self, service: str) -> None:
        super().__init__(f"there is no service {service!r} here")
        self.service = service


class ShuttingDown(EdgeRefusal):
    """This server is about to end."""

    retry_delay = timedelta(milliseconds=500)

    def __init__(self) -> None:
        super().__init__("this server is shutting down: ask again")


class WatchersFull(EdgeRefusal):
    """As many watch many tasks as this server takes."""

    retry_delay = timedelta(seconds=5)

    def __init__(self, limit: int) -> None:
        super().__init__(f"this server takes no more than {limit} watchers of many tasks")
        self.limit = limit


class ProjectWatchersFull(EdgeRefusal):
    """As many watch the tasks of one project as this server takes of one: others have room."""

    retry_delay = timedelta(seconds=5)

    def __init__(self, project: str, limit: int) -> None:
        super().__init__(
            f"this server takes no more than {limit} watchers of many tasks of one project, and "
            f"{project} has them"
        )
        self.project, self.limit = project, limit


class Defect(EdgeRefusal):
    """Something went wrong that is nobody's fault but ours; the log has it under *reference*."""

    def __init__(self, reference: str) -> None:
        super().__init__(f"an internal error occurred; its reference is {reference}")
        self.reference = reference
