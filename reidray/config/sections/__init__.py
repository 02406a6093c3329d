"""Configure the parts of a training. Each section checks its own values."""
