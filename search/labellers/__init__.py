"""Labellers, one file each; see ``search.labels``."""
