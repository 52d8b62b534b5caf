"""Tell errors that mean a lack of memory from all others."""

# of torch on a CPU, which has no class for it, and of the system
_WORDS = ("can't allocate memory", "not enough memory")


def is_lack_of_memory(error: Exception) -> bool:
    """Return whether a smaller size would have helped, on a CPU or a GPU."""
    named = isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError"
    return named or any(word in str(error) for word in _WORDS)
