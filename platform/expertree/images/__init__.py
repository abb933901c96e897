"""Reading, writing and measuring images as arrays."""
