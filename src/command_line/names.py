"""What was meant by a name that does not exist."""

import difflib


def nearest(text, known):
    """A question that names what was probably meant; '' where nothing is near."""
    text = str(text)
    begun = [name for name in known if text and name.startswith(text)]
    near = begun or difflib.get_close_matches(text, known, 1)
    return f'. Did you mean {near[0]}?' if near else ''
