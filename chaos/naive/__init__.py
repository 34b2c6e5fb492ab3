"""The flow that this project replaces, as a toy: what the same faults make of it is printed beside our own figures."""
