"""Rows in plain form: to files and back, between databases, and through the Hub."""
