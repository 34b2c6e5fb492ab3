"""Acceptance: from a request to a committed row. Shared by the executor (messages) and the client library."""
