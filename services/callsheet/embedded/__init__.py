"""Everything on one machine: the embedded Valkey, the supervisor, and the command callsheetd."""
