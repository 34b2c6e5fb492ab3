"""The contract: statuses, events, topology, definitions and errors. Pure: no I/O, no clock, no randomness."""
