"""Measurements: speed beside a bare floor (`python -m benchmarks`), and runs over whole populations (`.populations`).

Nothing imports this package. Every figure in docs/measurements.md was written there by one of these commands.
"""
