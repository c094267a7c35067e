"""Texts that end a sample, and what may become one."""


def ends(text, stops):
    """Where the first of the texts that end it begins in a text, or None."""
    found = [at for at in map(text.find, stops) if at >= 0]
    return min(found, default=None)


def begun(text, stops):
    """How many of its last characters may be the beginning of what ends it."""
    sizes = (size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size]))
    return max(sizes, default=0)
