"""Benchmarks: the floor and the product in one run, on the same private servers. Never part of the tests."""
