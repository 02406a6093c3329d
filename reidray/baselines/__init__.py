"""Embed crops by classical methods on raw pixels, as baselines for trained networks."""
