"""Training networks that say several things of an image at once."""
