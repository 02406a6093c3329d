"""From images on a disk or in an object store to a manifest and to batches of crops."""
