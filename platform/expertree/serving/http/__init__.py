"""The endpoint over HTTP: what is asked and answered, whatever restores."""
