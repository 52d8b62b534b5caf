"""The ``unianimate`` command."""
