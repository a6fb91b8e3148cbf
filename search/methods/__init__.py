"""Search methods, one file each; found by the registry in ``search.engine.method``."""
