"""The scheduling of training tasks on lanes, within a budget, as plain values without Ray."""
