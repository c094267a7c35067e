"""The files of tests, run side by side in processes that are forked from this one.

What TensorFlow has compiled stays in memory as long as a process lives, and to import it takes
seconds. So this process imports it, and all tests, but runs none: its children do, each one file
after the other until it has grown too large, and tell what came out; what is left of a file then is
for the next. Workers of pytest-xdist, which live to the last test, came to 6 GB and took a minute
longer.
"""

import multiprocessing
import multiprocessing.connection
import os
import resource
import sys

import pytest

LARGEST, LARGE = 1.2e9, 0.9e9  # bytes with which a child takes no more tests, and no more files
UNIT = 1 if sys.platform == 'darwin' else 1024  # bytes, in which ru_maxrss is


def pytest_addoption(parser):
    told = 'how many files of tests run at a time; 0: all in one process, for a debugger'
    parser.addoption('--processes', type=int, default=2, metavar='N', help=told)


def pytest_runtestloop(session):
    """Run all tests; or none, which leaves them to pytest and this process."""
    option, files = session.config.option, by_file(session.items)
    alone = option.collectonly or option.usepdb or option.capture == 'no' or session.testsfailed
    if alone or min(option.processes, len(files)) < 2 or not hasattr(os, 'fork'):
        return None
    session.config._tmp_path_factory.getbasetemp()  # one for all
    todo, running = [(number, 0) for number in range(len(files))], {}
    try:
        while todo or running:
            while todo and len(running) < option.processes:
                child = Child(session, files, todo)
                running[child.pipe] = child
            for pipe in multiprocessing.connection.wait(running):
                if not running[pipe].goes_on():
                    del running[pipe]
            if session.shouldfail:
                raise session.Failed(session.shouldfail)
            if session.shouldstop:
                raise session.Interrupted(session.shouldstop)
    finally:
        for child in running.values():
            child.process.kill()
    return True


def by_file(items):
    """[[test of one file]]; first those that train, which take longest."""
    files = {}
    for item in items:
        files.setdefault(item.nodeid.partition('::')[0], []).append(item)
    return sorted(files.values(), key=lambda items: 'training' not in items[0].nodeid)


class Child:
    """A process that runs some of the files, as its parent sees it.

    What is to be done is a pair: which file, and which of its tests is the first.
    """

    def __init__(self, session, files, todo):
        self.session, self.files, self.todo = session, files, todo
        self.doing, self.following, self.reports = todo.pop(0), None, {}
        self.pipe, its_pipe = multiprocessing.Pipe()
        arguments = session.config, files, self.doing, its_pipe
        self.process = multiprocessing.get_context('fork').Process(target=run, args=arguments)
        self.process.start()
        its_pipe.close()

    def goes_on(self):
        """Listen to it; whether there will be more to hear."""
        try:
            kind, told = self.pipe.recv()
        except EOFError:
            self.process.join()
            if self.doing is not None:
                self.log()
            return False
        if kind == 'report':
            config = self.session.config
            report = config.hook.pytest_report_from_serializable(config=config, data=told)
            self.reports.setdefault(report.nodeid, []).append(report)
        elif kind == 'what else':
            self.following = self.todo.pop(0) if self.todo else None
            self.pipe.send(self.following)
        else:
            self.log(told)
            number, _ = self.doing
            if told < len(self.files[number]):
                self.todo.insert(0, (number, told))
            self.doing, self.following, self.reports = self.following, None, {}
        return True

    def log(self, end=None):
        """Tell what came out of the tests up to `end`; of each, or that its process ended."""
        hook, (number, begin) = self.session.config.hook, self.doing
        for item in self.files[number][begin:end]:
            test = {'nodeid': item.nodeid, 'location': item.location}
            hook.pytest_runtest_logstart(**test)
            reports = self.reports.get(item.nodeid, [])
            if not reports or reports[-1].when != 'teardown':
                status = f'its process ended with status {self.process.exitcode}'
                reports.append(pytest.TestReport(
                    **test, keywords={}, outcome='failed', longrepr=status, when='call',
                ))  # fmt: skip
            for report in reports:
                hook.pytest_runtest_logreport(report=report)
            hook.pytest_runtest_logfinish(**test)


class Telling:
    """What pytest tells in a child goes to the parent."""

    def __init__(self, config, pipe):
        self.config, self.pipe = config, pipe

    def pytest_runtest_logreport(self, report):
        hook = self.config.hook
        told = hook.pytest_report_to_serializable(config=self.config, report=report)
        self.pipe.send(('report', told))


def run(config, files, todo, pipe):
    """What a child does."""
    capture = config.pluginmanager.getplugin('capturemanager')
    capture.stop_global_capturing()  # into a file that all children would share
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the parent tells
    capture.start_global_capturing()
    capture.suspend_global_capture()
    config.pluginmanager.register(Telling(config, pipe))
    while todo is not None:
        number, begin = todo
        tests, todo = files[number], None
        for i, test in enumerate(tests[begin:], begin):
            following, end = tests[i + 1 : i + 2], i + 1
            taken = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT
            if taken > LARGEST:
                following = []
            elif not following and taken < LARGE:
                pipe.send(('what else', None))
                todo = pipe.recv()
                following = todo and files[todo[0]][todo[1] :][:1]
            config.hook.pytest_runtest_protocol(item=test, nextitem=(following or [None])[0])
            if not following:
                break
        pipe.send(('done', end))
    os._exit(0)
