"""Looks at the gateway from outside: whether it is ready, as a probe sees it."""

from datetime import timedelta
from time import monotonic
from typing import Final

import httpx

from callsheet.runtime.checks.finding import Finding, HealthState

_PATIENCE: Final = timedelta(seconds=3)


class GatewayCheck:
    """Asks a gateway whether it is ready."""

    name = "gateway"
    is_essential = False

    def __init__(self, address: str) -> None:
        self._address = address

    async def look(self) -> Finding:
        """Return how the gateway is now."""
        before = monotonic()
        try:
            async with httpx.AsyncClient(
                timeout=_PATIENCE.total_seconds(), trust_env=False, follow_redirects=False
            ) as http:
                answer = await http.get(f"http://{self._address}/ready")
        except httpx.HTTPError as error:
            return Finding(
                state=HealthState.DOWN,
                reason="it does not answer",
                detail=f"{self._address}: {str(error) or type(error).__name__}",
                mend="start it with `callsheetd up` or `callsheetd gateway`, or set "
                "CALLSHEET_GATEWAY_ADDRESS to where it is",
            )
        return _finding(answer.status_code, self._address, timedelta(seconds=monotonic() - before))


def _finding(status: int, address: str, latency: timedelta) -> Finding:
    detail = f"http://{address}"
    match status:
        case 200:
            return Finding(state=HealthState.UP, detail=detail, latency=latency)
        case 503:
            return Finding(
                state=HealthState.DEGRADED,
                reason="it answers, and finds no control",
                detail=detail,
                mend="see what is said of control; the gateway's CALLSHEET_GRPC_ADDRESS names it",
                latency=latency,
            )
        case _:
            return Finding(
                state=HealthState.DOWN,
                reason="what answers there is no gateway",
                detail=f"{detail}: HTTP status {status}",
                mend="stop the other program, or set CALLSHEET_GATEWAY_ADDRESS",
                latency=latency,
            )
