"""What goes wrong on the user's side: one sentence that says what, where, the value, what to do.

The command line prints a `RetrError` in one line and exits with 2. Anything that is not a
`RetrError` is a defect of ours and keeps its traceback.
"""


class RetrError(Exception):
    """Something the user can put right; the message says how."""


class InputError(RetrError, ValueError):
    """A value given by the user cannot be used: a wrong id, dimension, column, option."""


class CollectionNotFoundError(RetrError, FileNotFoundError):
    """There is no collection at the path given."""


class DamagedError(RetrError):
    """A file of the collection is missing, cut short, or not what was written."""


class SpaceMismatchError(RetrError, ValueError):
    """Vectors of two embedding spaces would be mixed."""


class LockedError(RetrError):
    """Another writer held the collection for longer than the time limit."""


class ReadOnlyError(RetrError):
    """The collection was opened read-only, because its newest generation is damaged."""


class StorageError(RetrError, OSError):
    """The disk is full, or the folder cannot be written."""


class MissingExtraError(RetrError, ImportError):
    """A library that an optional feature needs is not installed; the message has the command."""


def missing_extra(what: str, extra: str) -> MissingExtraError:
    """Return the error for `what` needing the optional dependencies `extra`."""
    return MissingExtraError(f"{what} needs an extra: pip install 'retr[{extra}]'")
