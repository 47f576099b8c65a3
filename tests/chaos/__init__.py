"""The chaos run: real processes, faults on purpose, and a checker that sees only histories."""

import os

# gRPC's handlers of fork crash a child that is forked while its threads work; it is read when gRPC
# is imported, which is after this.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
