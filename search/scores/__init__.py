"""Scores of architectures, one evaluator a file, found by the registry in ``search.scores.base``."""
