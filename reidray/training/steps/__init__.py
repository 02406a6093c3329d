"""Run the steps of a training, and measure them."""
