"""Hold the connections to object stores."""
