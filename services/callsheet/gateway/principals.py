"""Who asks: the projects and roles of a key, where the gateway itself has to know them."""

from http import HTTPStatus

from callsheet.client.access import ROLES, RoleWord, role_word
from callsheet.gateway.problems import Refused
from callsheet.gateway.task_views import Json, time_text
from callsheet.v1 import access_service_pb2 as access


def require_role(principal: access.Principal, role: RoleWord) -> None:
    """Raise Refused, 403, when the caller has not the role."""
    if ROLES[role] not in principal.roles:
        raise Refused(HTTPStatus.FORBIDDEN, "ROLE_MISSING", f"the API key has not the role {role}")


def project_of(principal: access.Principal, asked: str) -> str:
    """Return the project that is meant: the one asked for, or the only one of the caller.

    Raises Refused, 404, when it is not the caller's, or none was named and there are several.
    """
    if asked in principal.projects:
        return asked
    if not asked and len(principal.projects) == 1:
        return principal.projects[0]
    what = f"there is no project {asked[:64]!r}" if asked else "name a project: the key has several"
    raise Refused(HTTPStatus.NOT_FOUND, "PROJECT_NOT_FOUND", what)


def principal_view(principal: access.Principal) -> Json:
    """Return who asks, as JSON."""
    expires, renewable = principal.HasField("expire_time"), principal.HasField("renewal_end_time")
    return {
        "key_id": principal.key_id,
        "projects": list(principal.projects),
        "roles": [role_word(role) for role in principal.roles],
        "expire_time": time_text(principal.expire_time) if expires else None,
        "session_end_time": time_text(principal.renewal_end_time) if renewable else None,
    }
