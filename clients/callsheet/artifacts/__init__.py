"""Artifacts: large outputs kept outside the ledger, by key, URI and digest."""
