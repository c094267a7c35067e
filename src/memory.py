"""The memory of a run."""

import ctypes
import os


def give_back():
    """Let glibc return what is freed, which saves 60 to 110 MB; elsewhere this does nothing.

    Otherwise each of TensorFlow's threads keeps what it once needed for tracing and compiling.
    """
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None) if os.name == 'posix' else None
    if mallopt:  # the numbers are those of malloc.h
        mallopt(-8, 1)  # M_ARENA_MAX
        mallopt(-3, 2**16)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**17)  # M_TRIM_THRESHOLD
