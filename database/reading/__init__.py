"""Answers from a store that change nothing in it."""
