"""Trained models beside classical baselines: the same images, the same rules, one page."""
