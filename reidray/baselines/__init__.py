"""What a trained network must beat: classical methods on raw pixels, from scikit-learn."""
