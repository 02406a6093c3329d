"""Embed images and predict their attributes, in this process or on Ray actors."""
