"""What TensorFlow keeps of the gradients that are our own."""

import contextlib

from tensorflow.python.framework import ops


@contextlib.contextmanager
def forgotten_afterwards():
    """What is traced in here can be freed one day.

    In a graph every call of a tf.custom_gradient is registered under a new name, for ever, and with
    it the graph and all its weights. The name is for gradients of a graph that is complete; a tape
    does not ask for it, so once the gradients are taken nobody will. Names of
    another kind stay: a module of TensorFlow that is loaded in here may bring its gradients.
    """
    registry = ops.gradient_registry
    before = set(registry.list())
    try:
        yield
    finally:
        for name in set(registry.list()) - before:
            if name.startswith('CustomGradient-'):
                del registry._registry[name]
