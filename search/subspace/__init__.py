"""The space that a search works on, and how it becomes narrower: limits, resolution, shrinking."""
