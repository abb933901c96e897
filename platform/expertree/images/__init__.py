"""Images as arrays: reading, writing, measuring."""
