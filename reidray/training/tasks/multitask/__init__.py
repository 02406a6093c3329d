"""Train networks that predict classes and masks, or attributes."""
