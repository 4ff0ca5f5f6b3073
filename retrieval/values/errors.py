"""The errors that a user can fix. A message says what is wrong, where, the value and what to do.

The command line prints a `RetrError` on one line and exits with status 2. Any other exception is
a bug in retr and keeps its traceback.
"""


class RetrError(Exception):
    """An error that the user can fix; the message says how."""


class InputError(RetrError, ValueError):
    """The user gave a value that cannot be used: a wrong id, dimension, column or option."""


class CollectionNotFoundError(RetrError, FileNotFoundError):
    """There is no collection at the path given."""


class DamagedError(RetrError):
    """A file of the collection is missing, truncated or corrupt."""


class SpaceMismatchError(RetrError, ValueError):
    """The operation would mix vectors from two embedding spaces."""


class LockedError(RetrError):
    """Another writer held the collection's lock for longer than the time limit."""


class ReadOnlyError(RetrError):
    """The collection was opened read-only, because its newest generation is damaged."""


class StorageError(RetrError, OSError):
    """The disk is full, or the folder cannot be written to."""


class MissingExtraError(RetrError, ImportError):
    """An optional feature needs a library that is not installed; the message has the command."""


def missing_extra(what: str, extra: str) -> MissingExtraError:
    """Return the error that says `what` needs the extra `extra`."""
    return MissingExtraError(f"{what} needs an extra: pip install 'retr[{extra}]'")
