"""From a model and folders of images to rankings, attributes and the figures that judge them."""
