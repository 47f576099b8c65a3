"""How long a client waits when the caller does not say."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

#: How long one call may last, all its tries together.
DEFAULT_TIMEOUT: Final = timedelta(seconds=30)
#: How long to wait for, or to watch, one task.
DEFAULT_WAIT: Final = timedelta(hours=1)
#: How long the plane may be away, without a break, while a task is waited for or watched.
DEFAULT_OUTAGE: Final = timedelta(minutes=2)
