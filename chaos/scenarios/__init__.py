"""The faults, one module for each place where something can break."""
