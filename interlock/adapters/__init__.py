"""Adapters: the only code that imports aio-pika, asyncpg, structlog and prometheus-client."""
