"""Processes that measure, of this machine or of a Ray cluster; they never see the store."""
