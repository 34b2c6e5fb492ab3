"""Loops: what heals without a message. Each looks at the database every period and calls the same functions."""
