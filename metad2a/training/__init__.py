"""One network on one dataset: the classifier in closed form, the loop, the plan for the minutes.

Nothing here knows where a network came from; what leaves is written by :mod:`metad2a.export`.
"""
