"""Who asks, and what they may do."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from callsheet.ledger.errors import ProjectNotFound, RoleMissing


class Role(Enum):
    """What a key allows."""

    SUBMIT = "submit"
    READ = "read"
    OPERATE = "operate"


@dataclass(frozen=True, slots=True)
class Principal:
    """Whoever an API key, or a ticket made with it, stands for."""

    key_id: str
    projects: frozenset[str]
    roles: frozenset[Role]
    #: When the ticket expires. None: it is a key.
    expire_time: datetime | None = None

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
