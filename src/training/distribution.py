"""Where variables live, and how one step runs on many replicas: a thin layer over tf.distribute.

Each device has plain variables of its own, which begin with the same values and are changed by the
same mean gradients, so that they stay equal without being copied. Every worker, which is a process,
draws the windows of all replicas in the same order; each replica takes its share of them.
"""

import contextlib
import functools
import io
import json
import os
import re
import signal
import socket
import sys
import threading

import tensorflow as tf

EXAMPLE = (
    '{"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": {"type": "worker", "index": 0}}'
)
PATIENCE = 1800  # seconds in which the other workers have to be there
# Gradients travel together in packs of about this size: few messages, little memory.
OPTIONS = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=2**25)


class Devices:
    """What the steps of a run are made on: here, the devices of this process and of all others."""

    def __init__(self, strategy=None, worker=0, workers=1):
        self.strategy = strategy
        self.worker, self.workers = worker, workers  # the number of this process; how many
        self.names = [None] if strategy is None else list(strategy.extended.worker_devices)
        self.replicas = 1 if strategy is None else strategy.num_replicas_in_sync
        self._sum = strategy and tf.function(self._sum_over_replicas, autograph=False)

    @property
    def is_chief(self):
        """Whether this process is the one that writes files and prints."""
        return self.worker == 0

    def on_each(self, make):
        """[make(0), make(1), …], a call on each device of this process; the first may print."""
        made = []
        for i, name in enumerate(self.names):
            with contextlib.ExitStack() as stack:
                if name:
                    stack.enter_context(tf.device(name))
                if i:
                    stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
                    stack.enter_context(contextlib.redirect_stderr(io.StringIO()))
                made.append(make(i))
        return made

    def run(self, functions, *arguments):
        """What functions[0] gives, while functions[1] is called on the second device, and so on."""
        if self.strategy is None:
            return functions[0](*arguments)

        def call(*arguments):
            return functions[_replica() % len(functions)](*arguments)

        results = self.strategy.run(call, arguments)
        return tf.nest.map_structure(
            lambda result: self.strategy.experimental_local_results(result)[0], results
        )

    def mean(self, tensors):
        """Within `run`: the mean of each tensor over all replicas, on all of them."""
        if self.replicas == 1:
            return tensors
        means = _all_reduce(tf.distribute.ReduceOp.MEAN, tensors)
        return [tf.reshape(mean, t.shape) for mean, t in zip(means, tensors, strict=True)]

    def share(self, batches):  # [number, replicas * batch, sequence] -> [number, batch, sequence]
        """Within `run`: the windows of this replica among those of all."""
        if self.replicas == 1:
            return batches
        number, windows, sequence = batches.shape
        shape = [number, self.replicas, windows // self.replicas, sequence]
        return tf.reshape(batches, shape)[:, _replica()]

    def of_all(self, number):
        """The whole numbers that all workers call this with; it waits for all of them."""
        if self.workers == 1:
            return [number]
        mine = tf.one_hot(self.worker, self.workers, dtype=tf.int64) * number
        return (self._sum(mine) // len(self.names)).numpy().tolist()

    def _sum_over_replicas(self, tensor):
        def reduce(tensor):
            return _all_reduce(tf.distribute.ReduceOp.SUM, [tensor])[0]

        return self.run([reduce], tensor)

    def require_same(self, what, number):
        """Raise ValueError, on all workers, unless all call this with the same number."""
        numbers = self.of_all(number)
        if len(set(numbers)) > 1:
            each = ', '.join(f'{n} on worker {i}' for i, n in enumerate(numbers))
            raise ValueError(
                f'{what} is {each}. All workers need the same command and the same files: copy '
                "worker 0's directories checkpoint and models, and the dataset, to the others"
            )

    @contextlib.contextmanager
    def as_one(self):
        """Let the chief alone print, and say in one line that another worker is lost."""
        with contextlib.ExitStack() as stack:
            if not self.is_chief:
                nowhere = stack.enter_context(open(os.devnull, 'w', encoding='utf-8'))
                stack.enter_context(contextlib.redirect_stdout(nowhere))
            try:
                yield
            except tf.errors.OpError as error:
                if self.workers == 1:
                    raise
                cause = re.search(r'aborted by: (.*)', error.message)
                cause = cause[1] if cause else type(error).__name__
                raise ValueError(
                    f'Another worker has ended or cannot be reached ({cause}). Start the same '
                    'command again on all machines; the run goes on from its last checkpoint'
                ) from None


ONE = Devices()


def chief_alone(method):
    """A method, of what has `devices`, that only the first of several workers carries out."""

    @functools.wraps(method)
    def carried_out(self, *arguments):
        return method(self, *arguments) if self.devices.is_chief else None

    return carried_out


def _replica():
    """Within Devices.run: the number of this replica."""
    return int(tf.get_static_value(tf.distribute.get_replica_context().replica_id_in_sync_group))


def _all_reduce(operation, tensors):
    """Within Devices.run."""
    here = [tf.identity(t) for t in tensors]  # on the device of this replica, by name
    return tf.distribute.get_replica_context().all_reduce(operation, here, OPTIONS)


def devices(strategy):
    """The Devices that --strategy means. It must come before everything else in TensorFlow.

    Raises ValueError: TF_CONFIG does not describe a cluster and a task in it, or this worker's
        port is taken.
    """
    if strategy == 'none':
        return ONE
    cluster = tf_config() if strategy in ('auto', 'multiworker') else []
    if strategy == 'multiworker' and not cluster:
        raise ValueError(
            '--strategy multiworker needs the environment variable TF_CONFIG on each machine, '
            f'such as {EXAMPLE}'
        )
    if strategy == 'multiworker' or len(cluster) > 1:
        return _multiworker(task_in(cluster), len(cluster))
    if strategy == 'auto' and len(tf.config.list_physical_devices('GPU')) < 2:
        return ONE
    local = tf.config.list_logical_devices('GPU') or tf.config.list_logical_devices('CPU')
    return _mirrored(tuple(device.name for device in local))


@functools.cache  # a second strategy on the same devices would mistake the messages of the first
def _mirrored(names):
    return Devices(tf.distribute.MirroredStrategy(names))


def tf_config():
    """The jobs of the cluster in TF_CONFIG, one for each worker: [(type, index), …], or [].

    This process comes with `task` as its type and index.

    Raises ValueError where it is not what TensorFlow takes.
    """
    text = os.environ.get('TF_CONFIG', '').strip()
    try:
        config = json.loads(text or '{}')
    except ValueError as error:
        raise _wrong(f'is no JSON: {error}') from None
    cluster = config.get('cluster') if isinstance(config, dict) else None
    if not cluster:
        return []
    if not isinstance(cluster, dict) or not set(cluster) <= {'chief', 'worker'}:
        raise _wrong('has a cluster of something else than "worker"')
    workers = []
    for job in sorted(cluster):  # "chief" comes first, as in TensorFlow
        addresses = cluster[job]
        if not isinstance(addresses, list) or not all(':' in str(a) for a in addresses):
            raise _wrong(f'has no list of host:port as {job}')
        workers += [(job, index) for index in range(len(addresses))]
    return workers


def task_in(workers):
    """The place of this process in what `tf_config` gave. Raises ValueError."""
    task = json.loads(os.environ['TF_CONFIG']).get('task')
    if not isinstance(task, dict) or 'type' not in task or 'index' not in task:
        raise _wrong('has no "task" with "type" and "index", which differ on each machine')
    place = task['type'], task['index']
    if place not in workers:
        known = ', '.join(f'{job} {index}' for job, index in workers)
        raise _wrong(f'has the task {task["type"]} {task["index"]!r}; its cluster has {known}')
    return workers.index(place)


def _wrong(what):
    return ValueError(f'TF_CONFIG {what}. It should be such as {EXAMPLE}')


@functools.cache
def _multiworker(number, workers):
    print(f'Worker {number} of {workers}, waiting for the others', file=sys.stderr, flush=True)
    with _signals_that_end_at_once(), _patience(number):
        try:
            # Collectives have no timeout: the others wait as long as the chief saves and samples.
            # A worker is lost when TensorFlow's coordination service has missed its heartbeat for
            # 10 s, the default; the thread that sends it does not wait for steps or for Python.
            strategy = tf.distribute.MultiWorkerMirroredStrategy(communication_options=OPTIONS)
        except tf.errors.OpError as error:
            raise ValueError(
                f'This worker cannot join the others: {error.message}. Is its port free?'
            ) from None
    return Devices(strategy, number, workers)


@contextlib.contextmanager
def _patience(number):
    """Say who does not answer yet; the process is ended if it has not joined the others in time.

    By an alarm: TensorFlow lets no Python run meanwhile, not even in another thread.
    """
    if missing := ', '.join(_silent_workers(number)):
        print(
            f'no answer yet from {missing}; without one this process ends in {PATIENCE} s',
            file=sys.stderr, flush=True,
        )  # fmt: skip
    if threading.current_thread() is not threading.main_thread() or os.name != 'posix':
        yield
        return
    before = signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _silent_workers(number):
    """'worker 1 at host2:2222', … of those at whose address nobody listens."""
    cluster = json.loads(os.environ['TF_CONFIG'])['cluster']
    for other, (job, index) in enumerate(tf_config()):
        host, _, port = cluster[job][index].rpartition(':')
        try:
            socket.create_connection((host, int(port)), timeout=2).close()
        except (OSError, ValueError):
            if other != number:
                yield f'worker {other} at {host}:{port}'


@contextlib.contextmanager
def _signals_that_end_at_once():
    """Python would see a signal only when TensorFlow has found all workers."""
    previous = {}
    if threading.current_thread() is threading.main_thread():
        for name in (signal.SIGINT, signal.SIGTERM):
            previous[name] = signal.signal(name, signal.SIG_DFL)
    try:
        yield
    finally:
        for name, handler in previous.items():
            signal.signal(name, handler)
