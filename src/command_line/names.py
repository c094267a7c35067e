"""What was meant by a name that does not exist."""

import difflib


def nearest(text, known):
    """A question that names what was probably meant; '' where nothing is near."""
    near = difflib.get_close_matches(str(text), known, 1)
    return f'. Did you mean {near[0]}?' if near else ''
