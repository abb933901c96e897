"""Exit codes of the verbs."""

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2

EXIT_INTERRUPTED = 130
"""The shells' own code for a program that SIGINT has ended."""
