"""The command line `expertree <verb>`; the files in `jobs` run the same verbs.

`main.py` finds the verb and imports nothing heavy; each verb is a module with a `main` of its own.
Only `composing.py` uses Hydra; `conf` has the settings in which experiments differ from defaults.
"""
