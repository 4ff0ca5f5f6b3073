"""The version of retr, which every manifest records."""

__version__ = "0.1.0"
