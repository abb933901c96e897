"""Reproducible degradation of clean photographs: formulas, parameters, captions, the table."""
