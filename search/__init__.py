"""Weight-sharing search."""
