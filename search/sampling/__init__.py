"""What methods that look at single architectures share: one-shot children, trials, screening."""
