"""Benchmarks: each compares two ways in one run, and returns one JSON object of what it found.

A new one is a module beside this file and a line in `registry.BENCHMARKS`.
"""
