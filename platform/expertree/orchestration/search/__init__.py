"""A search on Ray: trials by Ray Tune, experts by lanes that all trials share."""
