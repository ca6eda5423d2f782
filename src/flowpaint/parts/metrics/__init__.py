"""Metrics: what can be said of a result in numbers. Each file holds those of one kind."""
