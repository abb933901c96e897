"""One command line: `expertree <verb>`. The files in `jobs` run the same verbs.

`main.py` finds the verb and imports nothing heavy; each verb is a module with a `main` of its own.
`composing.py` is the only place for Hydra, `conf` has what experiments change of the defaults.
"""
