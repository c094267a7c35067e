"""Signals that end a run after its step, saved."""

import contextlib
import os
import signal
import socket
import threading

ENDING = [  # the last is that of a terminal that was closed
    getattr(signal, name) for name in ('SIGINT', 'SIGTERM', 'SIGHUP') if hasattr(signal, name)
]


@contextlib.contextmanager
def stop_requests():
    """An event that Ctrl-C, SIGTERM and SIGHUP set; a run ends, saved, after its step.

    The second Ctrl-C or SIGTERM ends the process at once. Outside the main thread none is caught.

    Python calls a signal's handler between two of its own operations, and a step is a single one
    that may take minutes; so a thread is told of signals as they come.
    """
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)
    before = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
    handlers = {}
    for number in ENDING:
        if not (number == getattr(signal, 'SIGHUP', None) and _is_ignored(number)):  # by nohup
            handlers[number] = signal.signal(number, lambda *_: None)
    listener = threading.Thread(target=_listen, args=(ours, stop, set(handlers)), daemon=True)
    listener.start()
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        pythons.close()
        listener.join()
        ours.close()


def _is_ignored(number):
    return signal.getsignal(number) is signal.SIG_IGN


def _listen(signals, stop, ending):
    while number := signals.recv(1):
        number = number[0]
        if number not in ending:
            continue
        if not stop.is_set():
            stop.set()
            _write(b'stopping after this step; once more stops at once, unsaved\n')
        elif number != getattr(signal, 'SIGHUP', None):  # which may come along with another one
            os._exit(128 + number)


def _write(text):
    with contextlib.suppress(OSError):  # the terminal may be gone
        os.write(2, b'\n' + text if os.isatty(2) else text)  # behind the bar, and ^C
