"""What every search runs in: the loop, its run and budget, checkpoints, and what a method is.

Methods and wrappers are in ``search.methods`` and ``search.wrappers``.
"""
