"""How a verb ends, as shells see it."""

EXIT_DONE, EXIT_FAILED, EXIT_USAGE = 0, 1, 2
