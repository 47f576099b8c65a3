"""Who asks, and what they may do."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from callsheet.ledger.errors import ProjectNotFound, RoleMissing


class Role(Enum):
    """What a key allows."""

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a ticket says. No roles or no projects: those of its key."""

    #: What it is revoked by; all that were made of one by renewal have the same.
    id: str
    key_id: str
    roles: frozenset[Role]
    projects: frozenset[str]
    expire_time: datetime
    #: When its renewals end. None: it cannot be renewed.
    renewal_end_time: datetime | None = None

    @property
    def last_time(self) -> datetime:
        """When it and all that can be made of it by renewal have expired."""
        return max(self.expire_time, self.renewal_end_time or self.expire_time)


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever an API key, or a ticket made with it, stands for."""

    key_id: str
    projects: frozenset[str]
    roles: frozenset[Role]
    #: The ticket that was shown. None: it was a key.
    ticket: Ticket | None = None
    #: How long the ticket was still good for when it was recognised. None: it was a key.
    time_left: timedelta | None = None

    def require(self, role: Role) -> None:
        """Raise RoleMissing unless the principal has the role."""
        if role not in self.roles:
            raise RoleMissing(role.value)

    def project(self, named: str) -> str:
        """Return the project meant: the named one, or the only one. Raises ProjectNotFound."""
        if not named and len(self.projects) == 1:
            return next(iter(self.projects))
        if named not in self.projects:
            raise ProjectNotFound(named)
        return named
