"""Compares methods at equal cost: a tree of experts, one network, the networks of other papers.

A comparison is a list of trainings (method, seed, rate), united by what they are made of, and
tables of what they reach. Start with `run.py`; `matching.py` says how many samples each one gets.
"""
