"""A bundle on all public sets below a folder: measured, resumably, and put beside the published.

`plan.py` says what is to be measured, `measuring.py` measures one image, `run.py` does all of it
and writes the tables and the page.
"""

from expertree.public_sets.run import measure_sets

__all__ = ["measure_sets"]
