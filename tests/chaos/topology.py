"""What a chaos run is made of: processes and the links between them, by name."""

from collections.abc import Iterator
from typing import Final

VALKEY: Final = "valkey"
BRAIN: Final = "brain"
CLIENT: Final = "client"
COURIER: Final = "sidecar"

CONTROLS: Final = ("control-1", "control-2")
WORKERS: Final = ("worker-1", "worker-2")
UPKEEPS: Final = ("upkeep-1", "upkeep-2")
SIDECARS: Final = ("sidecar-1", "sidecar-2")

#: Is gone for good, as it says at once, so that nobody comes back to it.
REFUSING: Final = "receiver-refusing"
#: Receivers by how they are; each but that one answers 2xx in the end.
RECEIVERS: Final = (
    "receiver-honest",
    "receiver-slow",
    "receiver-failing",
    "receiver-hanging",
    "receiver-lying",
    REFUSING,
)

PROCESSES: Final = (VALKEY, BRAIN, *RECEIVERS, *CONTROLS, *UPKEEPS, *WORKERS, *SIDECARS)


def role_of(process: str) -> str:
    """Return what a process is: its name without its number, or that of any receiver."""
    return process.partition("-")[0]


def processes_of(role: str) -> tuple[str, ...]:
    """Return the processes of a role; a runner goes by the name of its worker."""
    return WORKERS if role == "runner" else tuple(p for p in PROCESSES if role_of(p) == role)


def link_names() -> Iterator[str]:
    """Yield every link as client>server; all sidecars share one to each receiver."""
    for process in (*CONTROLS, *UPKEEPS, *WORKERS, *SIDECARS):
        yield f"{process}>{VALKEY}"
    for process in (*WORKERS, *SIDECARS):
        yield f"{process}>{BRAIN}"
    for control in CONTROLS:
        yield f"{CLIENT}>{control}"
    for receiver in RECEIVERS:
        yield f"{COURIER}>{receiver}"


def server_of(link: str) -> str:
    """Return the process behind a link."""
    return link.partition(">")[2]


def links_to(role: str) -> tuple[str, ...]:
    """Return the links whose server has the role, and that are used all the time."""
    servers = (link for link in link_names() if server_of(link) != REFUSING)
    return tuple(link for link in servers if role_of(server_of(link)) == role)
