"""Neural networks for your own images, suggested in seconds."""
