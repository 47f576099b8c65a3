"""The gRPC control plane: what clients may ask of the ledger, over the wire."""
