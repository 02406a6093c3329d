"""Show the images of a data set on a page: their numbers, samples, poor ones and augmented ones.

`templates/dataset_figures.html` holds the macros that render what these modules return.
"""
