"""Sweeps: many trainings of one recipe under settings that vary, and the best of them."""
