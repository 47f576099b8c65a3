"""Looks at control: whether it serves."""

from datetime import timedelta
from time import monotonic
from typing import Final

from callsheet.client.errors import CallError
from callsheet.client.health import ControlHealth
from callsheet.runtime.checks.finding import Finding, HealthState

#: What is said of a control that answers, and whose ledger does not.
LEDGER_AWAY: Final = "its ledger does not answer"

_PATIENCE: Final = timedelta(seconds=3)


class ControlCheck:
    """Asks control whether it serves, for which it wants no key; to be closed at the end."""

    name = "control"
    is_essential = True

    def __init__(self, address: str) -> None:
        self._address = address
        self._health = ControlHealth(address)

    async def look(self) -> Finding:
        """Return how control is now."""
        before = monotonic()
        try:
            is_serving = await self._health.is_serving(timeout=_PATIENCE)
        except CallError as error:
            return Finding(
                state=HealthState.DOWN,
                reason="it does not answer",
                detail=f"{self._address}: {error.message or error.code.name}",
                mend="start it with `callsheetd up` or `callsheetd control`, or set "
                "CALLSHEET_GRPC_ADDRESS to where it is",
            )
        latency = timedelta(seconds=monotonic() - before)
        if not is_serving:
            return Finding(
                state=HealthState.DOWN,
                reason=LEDGER_AWAY,
                detail=self._address,
                mend="bring its Redis back; nothing that was accepted is lost",
                latency=latency,
            )
        return Finding(state=HealthState.UP, detail=self._address, latency=latency)

    async def close(self) -> None:
        """Close its connection."""
        await self._health.close()
