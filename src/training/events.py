"""Scalars and texts for TensorBoard, in the event files of TensorFlow 1's FileWriter.

An event file is a TFRecord file of Event messages, so TensorBoard need not be installed to write
one.
"""

import os
import socket
import sys
import time

import tensorflow as tf


class Writer:
    """A new event file in `directory`, closed at the end of a `with`."""

    def __init__(self, directory):
        os.makedirs(directory, exist_ok=True)
        there = sum(name.startswith('events.') for name in os.listdir(directory))
        name = (
            f'events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}.{there}'
        )
        self.path = os.path.join(directory, name)
        try:
            self._records = tf.io.TFRecordWriter(self.path)
        except tf.errors.OpError:  # checkpoints could not be written there either
            raise OSError(f'{directory} is not a folder that may be written into') from None
        self._write(file_version='brain.Event:2')

    def add(self, step, **scalars):
        """Record scalars of a step under their names."""
        values = [
            tf.compat.v1.Summary.Value(tag=tag, simple_value=value)
            for tag, value in scalars.items()
        ]
        self._write(step=step, summary=tf.compat.v1.Summary(value=values))

    def add_texts(self, step, **texts):
        """Record lists of texts of a step under their names."""
        v1 = tf.compat.v1
        metadata = v1.SummaryMetadata(plugin_data={'plugin_name': 'text'})
        values = [
            v1.Summary.Value(tag=tag, metadata=metadata, tensor=tf.make_tensor_proto(list(some)))
            for tag, some in texts.items()
        ]
        self._write(step=step, summary=v1.Summary(value=values))

    def close(self):
        self._records.close()

    def _write(self, **fields):
        event = tf.compat.v1.Event(wall_time=time.time(), **fields)
        try:
            self._records.write(event.SerializeToString())
            self._records.flush()
        except tf.errors.OpError as error:  # a curve with a gap is better than a run that ends
            print(f'{self.path} could not be written: {error.message}', file=sys.stderr)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
