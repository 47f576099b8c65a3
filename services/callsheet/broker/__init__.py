"""The Dramatiq broker whose queues are the ledger's."""
