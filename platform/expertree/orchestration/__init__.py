"""The only package that imports Ray: lanes that train, data pipelines, searches and serving.

Read `pipeline/build.py` first (the order of the stages), then `pipeline/stages.py` (how results are
stored), `lanes.py` and `scheduling/schedule.py` (how many networks are trained at once), `data.py`
(Ray Data).
"""
