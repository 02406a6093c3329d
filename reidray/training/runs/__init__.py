"""Read and write run directories: configuration, metrics, checkpoints and the model."""
