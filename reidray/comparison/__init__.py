"""Compare trained models and classical baselines on the same images."""
