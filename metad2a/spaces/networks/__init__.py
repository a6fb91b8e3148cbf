"""Plain networks, one file a kind: torch alone, built and trained here, pasted whole into exports.

Every network has a ``config`` of JSON values with which its class builds it anew.
"""
