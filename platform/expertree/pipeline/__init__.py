"""The stages of a build, from photographs to a bundle; each result is stored by content hash."""
