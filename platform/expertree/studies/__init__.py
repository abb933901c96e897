"""Studies: tables that a claim of the docs rests on, each made again by one command.

A study is a list of rows, each stored once by the hash of what made it, so a study that was killed
goes on where it was. A new one is a module beside this file and a line in `registry.STUDIES`.
"""
