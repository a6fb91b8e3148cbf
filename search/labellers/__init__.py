"""Labellers, one file each; see ``search.labellers.base``."""
