"""The only place for Ray: lanes that train, pipelines that move images, stages that store results.

Read `build.py` first (the order of the stages), then `stages.py` (how results are stored),
`lanes.py` and `schedule.py` (how many networks are trained at once), `pipelines.py` (Ray Data).
"""
