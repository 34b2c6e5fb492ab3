"""Definitions at work: YAML files, the decorator, JSON Schema and templates. Knows no database, broker or process."""
