"""Folders of photographs restored: listed, planned, done one after the other, gone on with."""
