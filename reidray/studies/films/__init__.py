"""Films for a user: the favourites of the users who rate genres alike."""
