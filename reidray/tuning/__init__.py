"""Run sweeps: train one recipe with many parameters on Ray Tune, and keep the best trial."""
