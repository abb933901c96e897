"""Exit codes of the verbs."""

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
