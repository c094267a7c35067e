"""Programs that need not import TensorFlow: a process that has, and has done nothing else, forks.

It is forked itself, before the first test, and ends when all have ended that may ask it.
"""

import contextlib
import fcntl
import io
import multiprocessing
import multiprocessing.connection
import os
import pickle
import runpy
import signal
import socket
import subprocess
import sys
import termios
import warnings

import tensorflow as tf

from src.command_line import quiet

forking = multiprocessing.get_context('fork')
PIPE, asking = subprocess.PIPE, []


def begin():
    """Fork the process that forks; TensorFlow must not have done anything yet."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if not os.fork():
        ours.close()
        serve(its)
    its.close()
    asking[:] = [ours]


def serve(asked):
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for who waits for a program
    while True:
        request, files, _, _ = socket.recv_fds(asked, 2**20, 4)
        if not request:
            os._exit(0)
        if not os.fork():
            asked.close()
            wait_for_one(files.pop(), files, *pickle.loads(request))
        for file in files:
            os.close(file)


def wait_for_one(answers, streams, *program):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    answers = multiprocessing.connection.Connection(answers)
    process = forking.Process(target=run, args=(streams, *program))
    process.start()
    answers.send(process.pid)
    for stream in streams:
        os.close(stream)
    process.join()
    answers.send(process.exitcode)
    os._exit(0)


def run(streams, command, directory, environment, before):
    """Do what `python *command` does."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    sys.stdin = open(0, closefd=False)
    sys.stdout, sys.stderr = (
        io.TextIOWrapper(open(n, 'wb', 0, closefd=False), write_through=True) for n in (1, 2)
    )
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    as_python_begins()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get('PYTHONPATH', '').split(os.pathsep))
    os.chdir(directory)
    before()
    with quiet.held():  # as where a program itself imports TensorFlow
        tf.config.list_physical_devices('GPU')
    script, *arguments = command
    if script == '-c':
        sys.argv = ['-c', *arguments[1:]]
        sys.path.insert(0, '')
        exec(compile(arguments[0], '<string>', 'exec'), {'__name__': '__main__'})
    elif script == '-m':
        sys.argv = arguments
        sys.modules.pop(f'{arguments[0]}.__main__', None)  # it need not be told that it is there
        runpy.run_module(arguments[0], run_name='__main__', alter_sys=True)
    else:
        sys.argv = command
        sys.path.insert(0, os.path.dirname(script))
        runpy.run_path(script, run_name='__main__')


def as_python_begins():
    """Warnings are told, not raised as in the tests, and are those that concern who runs it."""
    warnings.resetwarnings()
    for kind in (DeprecationWarning, PendingDeprecationWarning, ImportWarning, ResourceWarning):
        warnings.simplefilter('ignore', kind)


def nothing():
    pass


def at_a_terminal():
    """What a shell does before it starts a program: Ctrl-C goes to it."""
    os.setsid()
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


class Program:
    """As subprocess.Popen, of `python -u *command`; its streams are PIPE or files."""

    def __init__(self, command, directory, before=nothing, environment=(), **streams):
        """
        Args:
            before: a function of a module, called in the new process before all else.
            streams: stdin, stdout, stderr.
        """
        mine, its = {}, []
        for name in ('stdin', 'stdout', 'stderr'):
            stream = streams.get(name, PIPE)
            if stream == PIPE:
                read, write = os.pipe()
                ends = (write, read) if name == 'stdin' else (read, write)
                mine[name] = open(ends[0], 'w' if name == 'stdin' else 'r', encoding='utf-8')
                its.append(ends[1])
            else:
                its.append(os.dup(stream if isinstance(stream, int) else stream.fileno()))
        self.stdin, self.stdout, self.stderr = map(mine.get, ('stdin', 'stdout', 'stderr'))
        self.answers, answers = forking.Pipe()
        request = [*map(str, command)], str(directory), dict(environment), before
        socket.send_fds(asking[0], [pickle.dumps(request)], [*its, answers.fileno()])
        answers.close()
        for stream in its:
            os.close(stream)
        self.pid, self.returncode = self.answers.recv(), None

    def poll(self):
        if self.returncode is None and self.answers.poll():
            self.returncode = self.answers.recv()
        return self.returncode

    def wait(self, timeout=120):
        if self.returncode is None and not self.answers.poll(timeout):
            raise subprocess.TimeoutExpired(self.pid, timeout)
        return self.poll()

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self):
        self.send_signal(signal.SIGKILL)

    def communicate(self, typed='', timeout=120):
        """What it prints and says to its end, after `typed`, which a pipe must have room for."""
        if self.stdin and not self.stdin.closed:
            self.stdin.write(typed)
            self.stdin.close()
        said = [stream and stream.read() for stream in (self.stdout, self.stderr)]
        self.wait(timeout)
        self.close()
        return said

    def close(self):
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self.answers.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
        self.wait()
        self.close()


def result_of(command, directory, typed='', **options):
    """As subprocess.run, with what it printed."""
    program = Program(command, directory, **options)
    said = program.communicate(typed)
    return subprocess.CompletedProcess(command, program.returncode, *said)
