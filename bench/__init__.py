"""Benchmarks of the library and of others on the same work: ``python -m bench`` (or ``make bench``).

The package imports nothing from here, and no test asserts a time.
"""
