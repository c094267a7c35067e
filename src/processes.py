"""A function of one argument after another, in several processes."""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import signal

_function = None  # what a process was started for


def in_order(function, arguments, num_proc):
    """function(argument) for each of the arguments, in their order. For the main thread.

    Only a few arguments and results are held for each process.

    Args:
        function: something that pickle knows; each process is given it once.
        num_proc: how many processes; with 1 it is this one.

    Raises:
        ChildProcessError: a process is gone.
        What the function raises.
    """
    if num_proc == 1:
        yield from map(function, arguments)
        return
    context = multiprocessing.get_context('spawn')  # nothing of this process's threads and signals
    pool = concurrent.futures.ProcessPoolExecutor(num_proc, context, _begin, (function,))
    waiting = collections.deque()
    try:
        for argument in arguments:
            with _deaf_to_interrupts():  # what is started here stays so
                waiting.append(pool.submit(_call, argument))
            if len(waiting) > 2 * num_proc:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except concurrent.futures.process.BrokenProcessPool:
        raise ChildProcessError(
            'One of the processes was ended from outside. If the memory is too small for them, '
            'choose a smaller --num_proc'
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


@contextlib.contextmanager
def _deaf_to_interrupts():
    """Ctrl-C reaches all processes of a terminal, but only the first has to end the others."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _begin(function):
    global _function
    _function = function


def _call(argument):
    return _function(argument)
