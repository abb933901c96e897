"""Studies, which make the tables behind the claims of the docs, each by one command.

A study is a list of rows, each stored once by the hash of what made it, so a study that was killed
goes on where it was. A new one needs a module beside this file and a line in `registry.STUDIES`.
"""
