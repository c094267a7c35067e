"""A directory to a model and back, in the files of OpenAI's and Shepperd's Saver.

A checkpoint `model-N` is a TensorFlow bundle, `model-N.index` and `model-N.data-00000-of-00001`,
of the model's variables alone, beside a `model-N.meta` with the graph that holds them. The file
`checkpoint` names the last five and `counter` holds N. What else a resume needs lies in a bundle of
its own, `state-N`, so that every program that reads GPT-2 can read `model-N`.
"""

import contextlib
import glob
import json
import os
import re
import shutil
import tempfile

import tensorflow as tf

from .. import model
from . import model_directory

KEEP = 5  # checkpoints in a run directory, as Shepperd's Saver kept


def read_hparams(directory):
    """The HParams of hparams.json. Raises ValueError where it is not what model.HParams takes."""
    path = os.path.join(directory, 'hparams.json')
    hparams = model.default_hparams()
    try:
        with open(path, encoding='utf-8') as file:
            hparams.override_from_dict(json.load(file))
    except (ValueError, AttributeError) as error:  # JSONDecodeError is a ValueError
        raise ValueError(f'{path} does not describe a model: {error}') from None
    if not hparams.n_vocab:
        raise ValueError(f'{path} does not describe a model: it has no n_vocab')
    return hparams


def counter_of(prefix):
    """The N of …/model-N, or what the file `counter` beside it says, or 0."""
    if number := re.search(r'^model-(\d+)', os.path.basename(prefix)):
        return int(number[1])
    path = os.path.join(os.path.dirname(prefix), 'counter')
    if not os.path.exists(path):
        return 0
    with open(path, encoding='utf-8') as file:
        return int(file.read())


def load(prefix, hparams, variable=tf.Variable):
    """The tree of variables in the checkpoint `prefix`; `variable(value, name=…)` makes each.

    Raises ValueError: files that are missing or damaged, or tensors that are not those of a model
    of these hparams; the message names the file and the tensor.
    """
    reader = _reader(prefix)
    there = reader.get_variable_to_shape_map()
    expected = model.parameter_shapes(hparams)
    surplus = re.compile(rf'model/h{hparams.n_layer}/')
    if any(surplus.match(name) for name in there):
        raise ValueError(f'{prefix} has more than the {hparams.n_layer} layers of hparams.json')

    def leaf(name, shape):
        if name not in there:
            raise ValueError(f'{prefix} has no tensor {name}; it is not a model of these hparams')
        if there[name] != shape:
            raise ValueError(
                f'{prefix}: {name} has shape {there[name]}; by hparams.json it should have {shape}'
            )
        return variable(tf.cast(_tensor(reader, prefix, name), tf.float32), name=name)

    return model.map_tree(leaf, expected)


def load_state(prefix):
    """The trainer's state that was saved with the checkpoint `prefix`: {name: array}, or None."""
    prefix = _state_prefix(prefix)
    if not os.path.exists(f'{prefix}.index'):
        return None
    reader = _reader(prefix)
    return {name: _tensor(reader, prefix, name) for name in reader.get_variable_to_shape_map()}


def _reader(prefix):
    for extension in ('index', 'data-00000-of-*'):
        if not glob.glob(f'{glob.escape(prefix)}.{extension}'):
            raise ValueError(f'The checkpoint {prefix} is not whole: there is no .{extension}')
    try:
        return tf.train.load_checkpoint(prefix)
    except (tf.errors.OpError, RuntimeError, ValueError) as error:
        raise ValueError(f'{prefix}.index is damaged: {_first_line(error)}') from None


def _tensor(reader, prefix, name):
    try:
        return reader.get_tensor(name)
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f'{prefix}.data-* is damaged at {name}: {_first_line(error)}') from None


def _first_line(error):
    return str(error).partition('\n')[0]


def save(
    directory, counter, params, state, files, write_more=lambda prefix: None, keep=KEEP
):  # fmt: skip
    """Write `model-<counter>` and `state-<counter>` so that `directory` restores at any moment.

    Everything is written beside its place and then renamed; the file `checkpoint` is renamed last,
    and only then do old checkpoints go.

    Args:
        params: the tree of variables, or its branches one after the other, so that only one of
            them has to be in memory.
        state: {name: tensor}, whatever the trainer wants to find again; None for nothing.
        files: {name: content}, what makes `directory` a model directory; see architecture.files.
        write_more: writes further files, `prefix`.*, that come and go with this checkpoint.
        keep: how many checkpoints, this one included.

    Raises OSError: the files could not be written; what was there before is still there.
    """
    os.makedirs(directory, exist_ok=True)
    name = f'model-{counter}'
    before = _kept(directory)
    kept = [other for other in before if other != name]
    with _staging(directory) as stage:
        branches = [params] if isinstance(params, dict) else params
        shapes = _write_branches(os.path.join(stage, name), branches)
        if state:
            _write(_state_prefix(os.path.join(stage, name)), state)
        _write_file(os.path.join(stage, f'{name}.meta'), _meta_graph(shapes))
        write_more(os.path.join(stage, name))
        for file, content in files.items():
            if not os.path.exists(os.path.join(directory, file)):
                _write_file(os.path.join(stage, file), content)
        if name in before:
            before.append(_copy_aside(directory, name, kept))
        _publish(stage, directory)
        _write_file(os.path.join(stage, 'counter'), f'{counter}\n'.encode())
        _publish(stage, directory)
        kept = [*kept, name][-keep:]
        _point_to(directory, kept)
    for old in set(before) - set(kept):
        _remove(os.path.join(directory, old))
    for path in glob.glob(os.path.join(glob.escape(directory), 'state-*.index')):
        if path != _state_prefix(os.path.join(directory, name)) + '.index':
            _remove(path[: -len('.index')])


def _kept(directory):
    """The names of this directory's own checkpoints, oldest first."""
    return [name for name in model_directory.named(directory)[1:] if os.sep not in name]


def _copy_aside(directory, name, kept):
    """Let `directory` restore from a copy of the checkpoint `name` while that is written anew.

    The trainer saves before step N, and once more under the same name if it is stopped in that
    step.
    """
    for prefix in (os.path.join(directory, name), _state_prefix(os.path.join(directory, name))):
        for path in glob.glob(f'{glob.escape(prefix)}.*'):
            shutil.copyfile(path, f'{prefix}-before{path[len(prefix) :]}')
    _point_to(directory, [*kept, f'{name}-before'])
    return f'{name}-before'


def _point_to(directory, kept):
    """Make the last of `kept` the latest checkpoint of `directory`, in one step."""
    lines = [f'model_checkpoint_path: "{kept[-1]}"']
    lines += [f'all_model_checkpoint_paths: "{name}"' for name in kept]
    path = os.path.join(directory, 'checkpoint')
    _write_file(f'{path}.new', ('\n'.join(lines) + '\n').encode())
    os.replace(f'{path}.new', path)


def _remove(prefix):
    for path in glob.glob(f'{glob.escape(prefix)}.*'):
        os.remove(path)


def _state_prefix(prefix):
    """…/model-N -> …/state-N"""
    directory, name = os.path.split(prefix)
    return os.path.join(directory, re.sub('^model', 'state', name))


@contextlib.contextmanager
def _staging(directory):
    """A folder inside `directory` for files that are not complete yet."""
    for left in glob.glob(os.path.join(glob.escape(directory), 'saving-*')):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
    stage = tempfile.mkdtemp(prefix='saving-', dir=directory)
    try:
        yield stage
    except tf.errors.OpError as error:
        raise OSError(f'{directory} could not be written: {_first_line(error)}') from None
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def _write_branches(prefix, branches):
    """Write each branch in turn and join them under one index; gives {name: shape}."""
    shapes, parts = {}, []
    for branch in branches:
        tensors = model.by_name(branch)
        shapes |= {name: tensor.shape for name, tensor in tensors.items()}
        parts.append(f'{prefix}-part-{len(parts)}')
        _write(parts[-1], tensors)
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=parts, destination_prefix=prefix, delete_old_dirs=False
    )
    return shapes


def _write(prefix, tensors):
    names = list(tensors)
    values = [tf.convert_to_tensor(tensors[name]) for name in names]
    tf.raw_ops.SaveV2(
        prefix=prefix, tensor_names=names, shape_and_slices=[''] * len(names), tensors=values
    )


def _write_file(path, content):
    with open(path, 'wb') as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _publish(stage, directory):
    """Move the files of `stage` into `directory` once they have reached the disk."""
    names = sorted(os.listdir(stage))
    for name in names:
        with open(os.path.join(stage, name), 'rb') as file:
            os.fsync(file.fileno())
    for name in names:
        os.replace(os.path.join(stage, name), os.path.join(directory, name))


def _meta_graph(shapes):
    """A MetaGraphDef with the variables and their Saver, for programs that ask for a .meta."""
    v1 = tf.compat.v1
    with tf.Graph().as_default():
        for name, shape in shapes.items():
            v1.get_variable(name, shape, initializer=v1.zeros_initializer(), use_resource=False)
        return v1.train.Saver(max_to_keep=KEEP).export_meta_graph().SerializeToString()
