"""Judging results: one pass over all metrics, benchmarks, comparison, the page."""
