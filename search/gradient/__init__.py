"""What methods with architecture parameters share: alphas, and how gradients reach them."""
