"""What learns: rows of a database become what the models inside the package answer with.

Nothing that answers imports from here.
"""
