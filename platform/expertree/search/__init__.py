"""Search over trees: spaces, rungs, shared costs, what was found. Pure; Ray is elsewhere."""
