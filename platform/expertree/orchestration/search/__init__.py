"""A search on Ray: Ray Tune runs trials, and lanes that all trials share train their experts."""
