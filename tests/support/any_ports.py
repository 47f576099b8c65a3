"""The settings with which a whole plane listens at whatever ports are free."""

from typing import Final

#: Variables of the addresses, and what they are set to.
ANY_PORTS: Final = dict.fromkeys(
    (
        "CALLSHEET_BRAIN_ADDRESS",
        "CALLSHEET_DOCS_ADDRESS",
        "CALLSHEET_GATEWAY_ADDRESS",
        "CALLSHEET_GRPC_ADDRESS",
        "CALLSHEET_HEALTH_ADDRESS",
    ),
    "127.0.0.1:0",
)
