"""What the library costs, measured beside others on the same work: ``python -m bench`` (or ``make bench``).

Nothing here is imported by the package, and no test asserts a time.
"""
