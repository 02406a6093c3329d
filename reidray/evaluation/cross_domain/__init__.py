"""Evaluate several models on several data sets."""
