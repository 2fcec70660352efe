"""The ledger: the append-only record of everything that maintenance saw and did."""
