"""A build: stages by content hash, from photographs to a bundle; what runs them is a `Runner`."""
