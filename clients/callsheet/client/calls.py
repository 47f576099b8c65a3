"""What every side of the client is made of: a connection, a project and a time limit."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta

    from callsheet.client.connection import Connection


class AsyncCalls:
    """Makes calls over a connection, for a project, each within a timeout."""

    def __init__(self, connection: Connection, *, project: str, timeout: timedelta) -> None:
        self._connection = connection
        self._project = project
        self._timeout = timeout
