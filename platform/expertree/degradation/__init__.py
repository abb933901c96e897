"""How a clean photograph is spoiled, reproducibly: physics, parameters, captions, the table."""
