"""Standard output and error where nobody is there to read them, or no room to write them."""

import contextlib
import os
import select
import sys


def silence():
    """After writing has failed: let no more be written to stdout, nor to a stderr that is gone."""
    _to_nothing(sys.stdout)
    if _is_gone(sys.stderr):
        _to_nothing(sys.stderr)


def _to_nothing(stream):
    with contextlib.suppress(OSError, ValueError, AttributeError):  # a notebook's has no number
        number = stream.fileno()
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, number)
        os.close(nothing)


def _is_gone(stream):
    """Whether the reader of a pipe, or a terminal, is no longer there."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    return False
