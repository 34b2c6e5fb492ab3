"""Handlers: (tx, events) → what to publish. They neither acknowledge nor publish nor open transactions."""
