"""Read images from a disk or an object store: manifests, labels and batches of crops."""
