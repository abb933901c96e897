"""Search over trees: spaces, rungs, shared costs and results; nothing here imports Ray."""
