"""The command line: one module per command group, each loaded only when it is asked for."""
