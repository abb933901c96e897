"""The HTTP side of an endpoint: requests and answers, independent of what restores."""
