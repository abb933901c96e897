"""Benchmarks, each of which compares two ways in one run and returns one JSON object of results.

A new one needs a module beside this file and a line in `registry.BENCHMARKS`.
"""
