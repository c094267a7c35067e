"""How many processors there are, a function called in several processes, and one at a time."""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import socket
import threading

_function = None  # what a process was started for


def cores():
    """How many processors this process may use."""
    if hasattr(os, 'sched_getaffinity'):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def available_memory():
    """The bytes of memory that a new process can have."""
    try:
        with open('/proc/meminfo', encoding='ascii') as file:
            return next(1024 * int(line.split()[1]) for line in file if 'MemAvailable' in line)
    except (OSError, StopIteration):  # not Linux
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


@contextlib.contextmanager
def locked(path):
    """Hold the lock file `path`, as long as this process lives; gives None.

    Where another process holds it, gives which one that is. Where there are no such locks, as on
    Windows, nothing is kept apart. Whoever holds it may remove it.
    """
    file, held = _locked(path)
    with file:
        if held:
            file.seek(0)
            file.truncate()
            print(f'process {os.getpid()} on {socket.gethostname()}', file=file, flush=True)
            yield None
        else:
            file.seek(0)
            yield file.read(200).strip() or 'another process'


def _locked(path):
    """The lock file, open, and whether it is ours."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, 'O_NOFOLLOW', 0)
    while True:
        file = open(os.open(path, flags, 0o666), 'a+', encoding='utf-8', errors='replace')
        try:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return file, False
        except (ImportError, OSError):  # this system, or this disk, has none
            return file, True
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file, True
        file.close()  # who held it has removed it in the meantime


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
            with _interrupts_held():
                waiting.append(pool.submit(_call, argument))  # which may start a process
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
def _interrupts_held():
    """Ctrl-C waits until the end of this, and never reaches a process that is started in it."""
    if not hasattr(signal, 'pthread_sigmask'):  # Windows
        yield
        return
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _begin(function):
    global _function
    _function = function
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent():
    """A killed parent tells nobody; its processes would wait for work for ever."""
    multiprocessing.parent_process().join()
    os._exit(1)


def _call(argument):
    return _function(argument)
