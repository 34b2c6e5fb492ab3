"""Benchmarks: floors, the product and peers in one run, on the same servers. Never part of the tests."""
