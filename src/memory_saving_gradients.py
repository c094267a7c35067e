"""tf.gradients for more compute and less memory (Chen et al. 2016, arXiv:1604.06174).

tf.gradients keeps what the forward pass computed until the gradient has come that far. Here the
checkpoints are kept, and what lies between two of them is computed again. As with Shepperd's
functions the graph may be that of any model: of a tf.function, or one of TensorFlow 1.
An operation is forward when it lies on a path from xs to ys. The top is what lies behind the last
checkpoints and is never recomputed; the rest falls into segments between checkpoints. Names stand
for tensors, for in a tf.function a tensor cannot be the key of a dict.
"""

import collections
import functools
import math

import tensorflow as tf
import toposort

DEAR = ('MatMul', 'Conv', 'Einsum')  # parts of the types of what takes long to compute
TF1_CONTROL_FLOW = {'Enter', 'Exit', 'LoopCond', 'Merge', 'NextIteration', 'Switch'}
TOP = math.inf  # its place behind all segments


def gradients(ys, xs, grad_ys=None, checkpoints='collection'):
    """The gradient of the sum of ys for each of xs, as tf.gradients(ys, xs, grad_ys) gives it.

    Remembered beside the checkpoints: what cannot run twice (random numbers, state, loops,
    branches, calls, custom gradients), what leads past a checkpoint, the first products of
    variables and data, and what does not depend on xs.

    Args:
        ys, xs: a tensor or a list of them; xs may be tf.Variables.
        grad_ys: None, or for each of ys its gradient, in its shape, or None for ones.
        checkpoints: the tensors to remember, as a list; or which ones they are:
            'collection': those of tf.compat.v1.add_to_collection('checkpoints', tensor).
            'speed': matrix products and convolutions, which take longest to compute again.
            'memory': about sqrt(n) of n tensors, each all that the rest is computed from.
            Those that do not lie between xs and ys are ignored.

    Returns a list: for each of xs a dense tensor in its shape, or None if ys do not depend on it.
    Raises ValueError: in eager mode; without checkpoints; for control flow of TensorFlow 1.
    """
    if tf.executing_eagerly():
        raise ValueError('there is no graph in eager mode; call gradients inside a tf.function')
    ys, xs = ([_in_graph(t) for t in _as_list(ts)] for ts in (ys, xs))
    grad_ys = [None] * len(ys) if grad_ys is None else _as_list(grad_ys)
    if len(grad_ys) != len(ys):
        raise ValueError(f'there are {len(grad_ys)} grad_ys; there must be {len(ys)}, as of ys')
    forward = _forward(xs, ys)
    if not forward:  # at most, some of ys are xs
        return tf.gradients(ys, xs, grad_ys)
    weights, products = _weights(forward, xs)
    chosen = _chosen(checkpoints, forward, weights, ys)
    below, kept = _below(forward, chosen, products, ends=[*xs, *ys])
    return _walk(forward, _segments(below, kept), kept, xs, ys, grad_ys)


gradients_speed = functools.partial(gradients, checkpoints='speed')
gradients_memory = functools.partial(gradients, checkpoints='memory')
gradients_collection = functools.partial(gradients, checkpoints='collection')


def _as_list(ts):
    return list(ts) if isinstance(ts, (list, tuple)) else [ts]


def _in_graph(t):
    """The tensor that stands for t in this graph; for a variable, its handle."""
    graph = tf.compat.v1.get_default_graph()
    t = t.handle if isinstance(t, tf.Variable) else t
    return t if getattr(t, 'graph', None) is graph else graph.capture(t)


def _forward(xs, ys):
    """The forward operations in the order of their creation: each after those it needs."""
    behind, waiting = set(), [y.op for y in ys]
    while waiting:
        op = waiting.pop()
        if op.name not in behind:
            behind.add(op.name)
            waiting += [t.op for t in op.inputs]
    forward, reached = [], {x.name for x in xs}
    for op in tf.compat.v1.get_default_graph().get_operations():
        if op.name in behind and any(t.name in reached for t in op.inputs):
            if op.type.removeprefix('Ref') in TF1_CONTROL_FLOW:
                raise ValueError(
                    f'{op.name} is control flow of TensorFlow 1, which cannot run twice; call '
                    'tf.compat.v1.enable_control_flow_v2() before the graph is built'
                )
            forward.append(op)
            reached.update(t.name for t in op.outputs)
    return forward


def _weights(forward, xs):
    """{name: its variable's} of what depends on one variable alone, and the names of what is next:
    the first products of variables and data, such as an embedding's rows."""
    weights, products, reached = {}, set(), {x.name for x in xs}
    for op in forward:
        inputs = [t for t in op.inputs if t.op.type != 'Const' or t.name in reached]
        variables = {weights.get(t.name) for t in inputs}
        if op.type == 'ReadVariableOp':
            variables = {op.inputs[0].name}
        outputs = [t.name for t in op.outputs]
        if len(variables) == 1 and None not in variables:
            weights.update(dict.fromkeys(outputs, *variables))
        elif not any(t.name in reached and t.name not in weights for t in inputs):
            products.update(outputs)
        reached.update(outputs)
    return weights, products


def _memory(forward, weights):
    """About sqrt(n) articulations, as evenly spaced by size as there are some.

    At one nothing else is alive. A tensor whose shape is not known counts as one number.
    """
    outputs = [t for op in forward for t in op.outputs if t.name not in weights]
    outputs = [t for t in outputs if t.dtype.is_floating or t.dtype.is_complex]
    sizes = {t.name: t.shape.num_elements() or 1 for t in outputs}
    last_use = {t.name: op.name for op in forward for t in op.inputs if t.name in sizes}
    parts, total = math.ceil(math.sqrt(len(sizes))), sum(sizes.values())
    done, alive, found = 0, {}, {}
    for op in forward:
        for t in op.inputs:
            if last_use.get(t.name) == op.name:
                alive.pop(t.name, None)
        alive.update({t.name: t for t in op.outputs if t.name in last_use})
        done += sum(sizes.get(t.name, 0) for t in op.outputs)
        part = round(parts * done / total) if done else 0
        if len(alive) == 1 and 0 < part < parts:  # of each part, the smallest
            (t,) = alive.values()
            found[part] = min(found.get(part, t), t, key=lambda t: sizes[t.name])
    return list(found.values())


def _chosen(checkpoints, forward, weights, ys):  # -> a set of names
    kind = checkpoints if isinstance(checkpoints, str) else 'list'
    if kind == 'list':
        found = _as_list(checkpoints)
    elif kind == 'collection':
        found = tf.compat.v1.get_collection('checkpoints')
    elif kind == 'speed':
        found = [t for op in forward if any(word in op.type for word in DEAR) for t in op.outputs]
    elif kind == 'memory':
        found = _memory(forward, weights)
    else:
        kinds = "'collection', 'speed', 'memory' or a list of tensors"
        raise ValueError(f'checkpoints is {kind!r}; it must be {kinds}')
    names = {t.name for t in found if getattr(t, 'graph', None) is forward[0].graph}
    names &= {t.name for op in forward for t in op.outputs} - {y.name for y in ys}
    if not names:
        raise ValueError(
            f'checkpoints ({kind}): {len(found)} tensors, and none lies between xs and ys; give a '
            "list of such, or add them with tf.compat.v1.add_to_collection('checkpoints', tensor)"
        )
    return names


def _below(forward, chosen, products, ends):
    """The operations that lead to a checkpoint, and the names of what they leave to remember."""
    below, needed = [], set(chosen)
    for op in reversed(forward):
        if any(t.name in needed for t in op.outputs):
            below.append(op)
            needed.update(t.name for t in op.inputs)
    below.reverse()
    kept = chosen | products | {t.name for t in ends}
    for op in below:
        if _runs_once(op):
            kept.update(t.name for t in [*op.inputs, *op.outputs])
    return below, kept & {t.name for op in below for t in op.outputs}


def _runs_once(op):
    """Whether a second run may differ from the first, or the gradient knows the first alone."""
    attributes = op.node_def.attr
    return (
        op.op_def.is_stateful
        or '_gradient_op_type' in attributes
        or any(value.HasField('func') or value.list.func for value in attributes.values())
        or any(t.dtype in (tf.resource, tf.variant) for t in [*op.inputs, *op.outputs])
    )


def _segments(below, kept):
    """A dict from the name of an operation to the number of the first segment that needs it."""
    nearest, needs = {}, {}  # the next remembered tensors towards xs: of all, of remembered ones
    for op in below:
        sets = [nearest.get(t.name, frozenset()) for t in op.inputs]
        union = max(sets, key=len)
        if not all(names <= union for names in sets):  # otherwise neighbours share one set
            union = union.union(*sets)
        for t in op.outputs:
            nearest[t.name] = union
            if t.name in kept:
                needs[t.name] = union
                # Variables are there from the start, and too many to be listed each time.
                nearest[t.name] = frozenset([] if op.type == 'ReadVariableOp' else [t.name])
    first = {name: i for i, names in enumerate(toposort.toposort(needs)) for name in names}
    segments = {}
    for op in reversed(below):
        segments[op.name] = min(first.get(t.name, TOP) for t in op.outputs)
        for t in op.inputs:
            if t.name not in kept:
                first[t.name] = min(first.get(t.name, TOP), segments[op.name])
    return segments


def _walk(forward, segments, kept, xs, ys, grad_ys):
    """The gradients of xs: through the top first, then segment by segment towards xs."""
    kept, groups = set(kept), collections.defaultdict(list)
    for op in forward:
        number = segments.get(op.name, TOP)
        groups[number].append(op)
        # What leads past a checkpoint is remembered too, so that nothing is computed three times.
        kept.update(t.name for t in op.inputs if segments.get(t.op.name, TOP) < number)
    top = groups.pop(TOP, [])
    in_top = {t.name for op in top for t in op.outputs}
    kept.update(x.name for x in xs if x.name not in in_top)

    parts = collections.defaultdict(list)  # what a gradient is the sum of, by its tensor's name
    seeds = [(y, g) for y, g in zip(ys, grad_ys, strict=True) if y.name in in_top]
    if seeds:
        inner = [x for x in xs if x.name in in_top]
        _differentiate(*zip(*seeds, strict=True), _inputs(top, kept), parts, inner)
    for y, grad_y in zip(ys, grad_ys, strict=True):
        if y.name in kept:
            parts[y.name].append(tf.ones_like(y) if grad_y is None else grad_y)

    for number in sorted(groups, reverse=True):
        again = [op for op in groups[number] if not _runs_once(op)]
        for ops in [again, *([op] for op in groups[number] if _runs_once(op))]:
            outputs = [t for op in ops for t in op.outputs if parts[t.name]]
            if outputs:
                upstream, inputs = [_total(parts, t) for t in outputs], _inputs(ops, kept)
                late = _not_before(upstream, inputs) if ops is again else inputs
                copies = _copies(ops, inputs, late, outputs) if ops is again else outputs
                _differentiate(copies, upstream, late, parts, names=[t.name for t in inputs])
    return [_total(parts, x) for x in xs]


def _inputs(ops, kept):
    """What operations use of what is remembered and is not their own, each tensor once."""
    own = {op.name for op in ops}
    used = {t.name: t for op in ops for t in op.inputs if t.op.name not in own}
    return [t for name, t in used.items() if name in kept]


def _total(parts, t):
    """The gradient of t, or None."""
    terms = parts[t.name]
    terms[:] = [tf.add_n(terms)] if len(terms) > 1 else terms
    return terms[0] if terms else None


def _differentiate(ys, grad_ys, inputs, parts, inner=(), names=None):
    """Add to `parts` the gradients for `inputs`, and for `inner`, which are computed from those."""
    xs = [*inputs, *inner]
    found = tf.gradients(list(ys), xs, list(grad_ys), stop_gradients=list(inputs))
    for name, gradient in zip(names or [x.name for x in xs], found, strict=True):
        if isinstance(gradient, tf.IndexedSlices):
            size = gradient.dense_shape[0]
            gradient = tf.math.unsorted_segment_sum(gradient.values, gradient.indices, size)
        if gradient is not None:
            parts[name].append(gradient)


def _copies(ops, inputs, replacements, outputs):
    """The outputs of operations that run once more, with replacements for some of their inputs."""
    graph_def = tf.compat.v1.GraphDef(versions=ops[0].graph.graph_def_versions)
    for op in ops:
        node = graph_def.node.add()
        node.CopyFrom(op.node_def)
        node.input[:] = [name for name in node.input if not name.startswith('^')]
        node.attr.pop('_class', None)  # names an operation to be beside, which is not here
    own = {op.name for op in ops}
    outside = {t.name: t for op in ops for t in op.inputs if t.op.name not in own}
    outside.update((t.name, other) for t, other in zip(inputs, replacements, strict=True))
    return tf.graph_util.import_graph_def(
        graph_def, outside, [t.name for t in outputs], name='recomputed'
    )


def _not_before(upstream, tensors):
    """The tensors, for operations that run when the gradients `upstream` are there.

    XLA knows no order, and computes once what seems to be twice the same. So the values seem to
    depend on the gradients. That they do not is hidden: no number is both infinite and none.
    """
    first = [tf.reshape(tf.math.real(gradient), [-1])[:1] for gradient in upstream]
    never = [tf.math.is_inf(number) & tf.math.is_nan(number) for number in first]
    never = tf.reduce_any(tf.concat(never, axis=0))

    def late(t):
        # A variable would be dear to copy; a subtraction, unlike a sum, keeps the sign of -0.
        copied = t.op.type != 'ReadVariableOp' and (t.dtype.is_floating or t.dtype.is_complex)
        return t - tf.cast(never, t.dtype) if copied else tf.identity(t)

    with tf.control_dependencies([never]):
        return [late(t) for t in tensors]
