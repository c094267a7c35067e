"""Windows per second of one worker, of two apart, and of two that train together, a core for each.

    python benchmarks/distribution.py

Random weights and tokens, 4 layers of width 256, a batch of 4 x 256 for each worker, Adam. The two
that train together are separate processes that talk over loopback. Two apart, at the same time,
show what the machine gives to two processes that need not wait for each other.
"""

import json
import os
import socket
import subprocess
import sys
import time

import numpy as np

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.realpath(__file__))))

SHAPE = {'n_vocab': 1000, 'n_ctx': 256, 'n_embd': 256, 'n_head': 4, 'n_layer': 4}
BATCH, WARM_UP, STEPS, ROUNDS = 4, 5, 20, 3


def measure():
    """Print, as JSON, the seconds of a step, best of some rounds, and its seconds of processor."""
    import tensorflow as tf

    from src import model
    from src.training import distribution, train_config, train_step

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    devices = distribution.devices('auto')
    hparams = model.default_hparams()
    hparams.override_from_dict(SHAPE)
    config = train_config.TrainConfig(dataset='', batch_size=BATCH, seed=0)
    lm = model.GPT2(hparams, model.init_params(hparams, seed=0))
    state = train_step.TrainState(lm, config, [np.arange(SHAPE['n_ctx'], dtype=np.uint16)])
    compiled = train_step.compiled(state, config, SHAPE['n_ctx'], devices)
    shape = compiled.input_signature[0].shape
    batches = tf.constant(np.random.default_rng(0).integers(0, SHAPE['n_vocab'], shape), tf.int32)
    rounds = []
    for steps in [WARM_UP] + [STEPS] * ROUNDS:
        start = time.time(), time.process_time()
        for _ in range(steps):
            compiled(batches, 1e-4)[0].numpy()
            devices.of_all(0)  # as training_loop asks whether to stop
        rounds.append(((time.time() - start[0]) / steps, (time.process_time() - start[1]) / steps))
    print(json.dumps(min(rounds[1:])))


def run(number, together):
    """Start workers, each on its core; gives what each measured."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(('127.0.0.1', 0))
    addresses = [f'127.0.0.1:{each.getsockname()[1]}' for each in sockets]
    for each in sockets:
        each.close()
    processes = []
    for index in range(number):
        task = {'type': 'worker', 'index': index}
        config = json.dumps({'cluster': {'worker': addresses}, 'task': task}) if together else ''
        process = subprocess.Popen(
            ['taskset', '-c', str(index), sys.executable, __file__, 'measure'],
            env={**os.environ, 'TF_CONFIG': config, 'TF_CPP_MIN_LOG_LEVEL': '3'},
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip
        processes.append(process)
    return [json.loads(process.communicate()[0]) for process in processes]


def main():
    for name, number, together in [('one', 1, 0), ('two apart', 2, 0), ('two together', 2, 1)]:
        measured = run(number, together)
        windows = sum(BATCH / wall for wall, _ in measured)
        processor = max(processor for _, processor in measured)
        print(f'{name}: {windows:.1f} windows/s, {processor:.3f} s of processor for a step')


if __name__ == '__main__':
    measure() if sys.argv[1:] == ['measure'] else main()
