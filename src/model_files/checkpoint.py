"""A directory to a model and back, in the files of OpenAI's and Shepperd's Saver.

A checkpoint `model-N` is a TensorFlow bundle, `model-N.index` and `model-N.data-00000-of-00001`,
of the model's variables alone, beside a `model-N.meta` with the graph that holds them. The file
`checkpoint` names all of them and `counter` holds N. What else a resume needs lies in a bundle of
its own, `state-N`, so that every program that reads GPT-2 can read `model-N`.
"""

import contextlib
import json
import os
import re
import shutil
import tempfile

import tensorflow as tf

from .. import model
from . import bundle, rotation

SMALL = 2**16  # characters: of hparams.json and counter no more is looked at


def read_hparams(directory):
    """The HParams of hparams.json. Raises ValueError where it is not what model.HParams takes."""
    path = os.path.join(directory, 'hparams.json')
    hparams = model.default_hparams()
    try:
        with open(path, encoding='utf-8-sig') as file:
            hparams.override_from_dict(json.loads(file.read(SMALL)))
    except (ValueError, AttributeError, RecursionError) as error:  # JSONDecodeError among them
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
    with open(path, encoding='utf-8', errors='replace') as file:
        text = file.read(SMALL).strip()
    if not re.fullmatch(r'[0-9]{1,18}', text):
        raise ValueError(f'{path} holds {text[:40]!r}; it should be the number of a step')
    return int(text)


def load(prefix, hparams, variable=tf.Variable, *, transposed=False):
    """The tree of variables in the checkpoint `prefix`; `variable(value, name=…)` makes each.

    transposed: as for model.parameter_shapes.

    Raises ValueError as `reading`.
    """
    with reading(prefix, hparams) as read:

        def loaded(name, _):
            value = tf.transpose(read(name[:-2])[0]) if name.endswith('/w_t') else read(name)
            return variable(value, name=name)

        return model.map_tree(loaded, model.parameter_shapes(hparams, transposed))


@contextlib.contextmanager
def reading(prefix, hparams):
    """What reads one tensor of the checkpoint `prefix` by its name, as float32.

    Raises ValueError: files that are missing or damaged, or tensors that are not those of a model
    of these hparams; the message names the file and the tensor.
    """
    with _opened(prefix) as reader:
        _require_layers(prefix, hparams, reader)
        shapes, dtypes = reader.get_variable_to_shape_map(), reader.get_variable_to_dtype_map()
        expected = model.by_name(model.parameter_shapes(hparams))

        def read(name):
            if name not in shapes:
                raise ValueError(_without(prefix, name))
            if shapes[name] != expected[name]:
                raise ValueError(
                    f'{prefix}: {name} has shape {shapes[name]}; by hparams.json it should have '
                    f'{expected[name]}'
                )
            if not dtypes[name].is_floating:
                raise ValueError(f'{prefix}: {name} is {dtypes[name].name}; weights are floats')
            return tf.cast(_tensor(reader, prefix, name), tf.float32)

        yield read


def _require_layers(prefix, hparams, reader):
    """Raise ValueError where the file has not as many layers as hparams.json says.

    Before a tree of that many is made: a size may be any number.
    """
    names = ' '.join(reader.get_variable_to_shape_map())
    layers = len(set(re.findall(r'\bmodel/h(\d+)/', names)))
    if layers > hparams.n_layer:
        raise ValueError(f'{prefix} has more than the {hparams.n_layer} layers of hparams.json')
    if layers < hparams.n_layer:
        raise ValueError(_without(prefix, f'model/h{layers}/ln_1/g'))


def _without(prefix, name):
    return f'{prefix} has no tensor {name}; it is not a model of these hparams'


def load_state(prefix):
    """The trainer's state that was saved with the checkpoint `prefix`: {name: array}, or None."""
    directory, name = os.path.split(prefix)
    if not name.startswith('model-'):  # nobody's state, whatever it was renamed to
        return None
    prefix = os.path.join(directory, rotation.state_of(name))
    if not os.path.exists(f'{prefix}.index'):
        return None
    with _opened(prefix) as reader:
        return {name: _tensor(reader, prefix, name) for name in reader.get_variable_to_shape_map()}


@contextlib.contextmanager
def _opened(prefix):
    """A reader of the checkpoint `prefix`.

    TensorFlow reads `[`, `*`, `?` and `\\` in a path as a pattern: such a one is read by links.
    """
    directory, name = os.path.split(os.path.abspath(prefix))
    pattern = re.compile(rf'{re.escape(name)}\.(index|data-.*)')
    files = list(
        filter(pattern.fullmatch, os.listdir(directory) if os.path.isdir(directory) else [])
    )
    for extension in ('index', 'data-'):
        if not any(file.startswith(f'{name}.{extension}') for file in files):
            missing = '.index' if extension == 'index' else '.data-00000-of-*'
            raise ValueError(f'The checkpoint {prefix} is not whole: there is no {missing}')
    bundle.require_sound(prefix)
    with contextlib.ExitStack() as stack:
        path = prefix
        if re.search(r'[\[\]*?\\]', prefix):
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            path = os.path.join(folder, 'model')
            for file in files:
                os.symlink(os.path.join(directory, file), path + file[len(name) :])
        try:
            reader = tf.train.load_checkpoint(path)
        except (tf.errors.OpError, RuntimeError, ValueError) as error:
            raise ValueError(f'{prefix}.index is damaged: {_first_line(error)}') from None
        yield reader


def _tensor(reader, prefix, name):
    try:
        return reader.get_tensor(name)
    except (tf.errors.OpError, RuntimeError, ValueError, IndexError) as error:
        raise ValueError(f'{prefix}.data-* is damaged at {name}: {_first_line(error)}') from None


def _first_line(error):
    return str(error).partition('\n')[0]


def save(
    directory, counter, params, state, files, write_more=lambda prefix: None, keep=rotation.KEEP
):  # fmt: skip
    """Write `model-<counter>` and `state-<counter>` so that `directory` restores at any moment.

    Everything is written beside its place and then renamed; the file `checkpoint` is renamed last.
    Only then do old checkpoints go, and the state of the one before.

    Args:
        params: the tree of variables, or its branches one after the other, so that only one of
            them has to be in memory.
        state: {name: tensor}, whatever the trainer wants to find again; None for nothing.
        files: {name: content}, what makes `directory` a model directory; see architecture.files.
        write_more: writes further files, `prefix`.*, that come and go with this checkpoint.
        keep: how many checkpoints, this one included; None leaves them all to a later
            rotation.rotate.

    Raises OSError: the files could not be written; what was there before is still there.
    """
    os.makedirs(directory, exist_ok=True)
    name = f'model-{counter}'
    before = rotation.kept(directory)
    kept = [other for other in before if other != name]
    with _staging(directory, name) as stage:
        branches = [params] if isinstance(params, dict) else params
        shapes = _write_branches(os.path.join(stage, name), branches)
        if state:
            _write(os.path.join(stage, rotation.state_of(name)), state)
        rotation.write_file(os.path.join(stage, f'{name}.meta'), _meta_graph(shapes))
        write_more(os.path.join(stage, name))
        new = [file for file in files if not os.path.exists(os.path.join(directory, file))]
        for file in new:
            rotation.write_file(os.path.join(stage, file), files[file])
        rotation.write_file(os.path.join(stage, rotation.NEW), '\n'.join(new).encode())
        if name in before:
            rotation.point_to(directory, [*kept, rotation.copy_aside(directory, name)])
        _publish(stage, directory)
        rotation.write_file(os.path.join(stage, 'counter'), f'{counter}\n'.encode())
        _publish(stage, directory)
        rotation.point_to(directory, [*kept, name])
        rotation.remove(directory, f'{name}{rotation.ASIDE}')
        rotation.remove(directory, rotation.state_of(f'{name}{rotation.ASIDE}'))
    if keep:
        rotation.rotate(directory, keep)


@contextlib.contextmanager
def _staging(directory, name):
    """A folder inside `directory` for files that are not complete yet."""
    rotation.remove_leftovers(directory)
    stage = tempfile.mkdtemp(prefix=f'{rotation.STAGE}{name}-', dir=directory)
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


def _publish(stage, directory):
    """Move the files of `stage` into `directory` once they have reached the disk."""
    names = sorted(set(os.listdir(stage)) - {rotation.NEW})
    for name in names:
        with open(os.path.join(stage, name), 'rb') as file:
            os.fsync(file.fileno())
    for name in names:
        os.replace(os.path.join(stage, name), os.path.join(directory, name))
    rotation.sync(directory)


def _meta_graph(shapes):
    """A MetaGraphDef with the variables and their Saver, for programs that ask for a .meta."""
    v1 = tf.compat.v1
    with tf.Graph().as_default():
        for name, shape in shapes.items():
            v1.get_variable(name, shape, initializer=v1.zeros_initializer(), use_resource=False)
        return v1.train.Saver(max_to_keep=rotation.KEEP).export_meta_graph().SerializeToString()
