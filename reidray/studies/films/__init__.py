"""Recommend films: cluster users by their ratings of genres, and list each cluster's favourites."""
