"""Restore folders of photographs, and go on with a batch that was stopped."""
