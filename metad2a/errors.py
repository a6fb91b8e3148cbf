"""The error tree.

Every message says what was wrong, the offending value, the limit and the remedy. An
``InputError`` is the user's to mend and safe to show (exit code 3, HTTP 400).
"""

from __future__ import annotations


class MetaD2AError(Exception):
    """Base of all errors that this project raises on purpose."""


class InputError(MetaD2AError, ValueError):
    """The data or an argument given by the user cannot be used."""


class BudgetError(InputError):
    """A limit on size or speed that no architecture of the space can meet."""


class ArtifactError(MetaD2AError):
    """A model folder that is missing, damaged or of another format."""


class DatabaseError(MetaD2AError):
    """A database that cannot be opened, or a row that it refuses."""


class HiddenPackageError(MetaD2AError, ImportError):
    """A file or folder of the user's own that has the name of one of our packages."""
