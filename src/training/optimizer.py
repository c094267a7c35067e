"""The update of each variable from its gradient, one variable after the other.

`slots` is what an optimizer remembers between updates, under checkpoint names. `apply` is given the
number of updates before this one, so that nothing else has to be remembered.
"""

import math

import tensorflow as tf

# Kingma and Ba 2014 (arXiv:1412.6980), algorithm 1, with the defaults of tf.train.AdamOptimizer.
# Its kernel adds epsilon to the square root of the uncorrected second moment: "epsilon hat" of the
# end of the paper's section 2.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

# Shazeer and Stern 2018 (arXiv:1804.04235), algorithm 4, with the values of its section 9.
DECAY_EXPONENT, EPSILON1, CLIPPING_THRESHOLD = 0.8, 1e-30, 1.0

# Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), with one polynomial, five times.
# Here are three, a x + b x^3 + c x^5, each the one that brings what those before it leave nearest
# to 1, as in Polar Express (Amsel et al. 2025, arXiv:2505.16932). Singular values of 0.003 to 1
# come between 0.35 and 1.65.
MOMENTUM = 0.95
POLYNOMIALS = (
    (8.3837, -24.7659, 18.3571),
    (4.0434, -3.0114, 0.5695),
    (3.5056, -2.6267, 0.5257),
)
# The root mean square of an update, about that of Adam's, so that one learning rate and one weight
# decay are right for both: Liu et al. 2025 (arXiv:2502.16982), section 2.2.
UPDATE_SIZE = 0.2
STACK = 2**18  # numbers; matrices of one shape are multiplied at once, as many as have these


class SGD(tf.Module):
    """Gradient descent; it remembers nothing."""

    in_place = True  # whether an update needs no room of its own

    def __init__(self, variables, weight_decay=0.0):  # {name: variable}
        super().__init__()
        self.variables_by_name = variables
        self.weight_decay = weight_decay
        self.slots = {}

    def slot(self, kind, name, shape):
        self.slots[f'{kind}/{name}'] = tf.Variable(tf.zeros(shape))

    def apply(self, gradients, learning_rate, updates):
        """Update variables from {name: gradient}; `learning_rate` and `updates` are [] float32."""
        shrinking = learning_rate * self.weight_decay
        done = []  # what needs room waits for what needed it before: it is needed once
        for name, gradient in gradients.items():
            variable = self.variables_by_name[name]
            if self.weight_decay and variable.shape.rank > 1:  # not of biases and gains
                with tf.control_dependencies(done):
                    done = [variable.assign_sub(shrinking * variable)]
            with tf.control_dependencies([] if self.in_place else done):
                update = self.update(name, variable, gradient, learning_rate, updates)
            done = done if self.in_place else [update]

    def update(self, name, variable, gradient, learning_rate, updates):
        return tf.raw_ops.ResourceApplyGradientDescent(
            var=variable.handle, alpha=learning_rate, delta=gradient
        )


class Adam(SGD):
    """Adam; with weight decay, it is AdamW (Loshchilov and Hutter 2017, arXiv:1711.05101)."""

    def __init__(self, variables, weight_decay=0.0, beta2=BETA2):
        super().__init__(variables, weight_decay)
        self.beta2 = beta2
        for name, variable in variables.items():
            for moment in ('m', 'v'):
                self.slot(f'adam/{moment}', name, variable.shape)

    def apply(self, gradients, learning_rate, updates):
        powers = [tf.pow(beta, updates + 1) for beta in (BETA1, self.beta2)]  # once for all
        super().apply(gradients, learning_rate, powers)

    def update(self, name, variable, gradient, learning_rate, powers):
        return tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self.slots[f'adam/m/{name}'].handle,
            v=self.slots[f'adam/v/{name}'].handle,
            beta1_power=powers[0],
            beta2_power=powers[1],
            lr=learning_rate,
            beta1=BETA1,
            beta2=self.beta2,
            epsilon=EPSILON,
            grad=gradient,
        )


class Adafactor(SGD):
    """Adafactor without momentum, with a learning rate from outside.

    Of the second moments of a matrix it remembers the means of rows and of columns alone, so that
    it needs hardly more memory than SGD.
    """

    in_place = False

    def __init__(self, variables, weight_decay=0.0):
        super().__init__(variables, weight_decay)
        for name, variable in variables.items():
            *start, rows, columns = [1, *variable.shape]
            if variable.shape.rank > 1:
                self.slot('adafactor/rows', name, [*start[1:], rows])
                self.slot('adafactor/columns', name, [*start[1:], columns])
            else:
                self.slot('adafactor/v', name, variable.shape)

    def update(self, name, variable, gradient, learning_rate, updates):
        decay = 1 - tf.pow(updates + 1, -DECAY_EXPONENT)

        def mean(kind, values):
            slot = self.slots[f'adafactor/{kind}/{name}']
            return tf.convert_to_tensor(slot.assign(decay * slot + (1 - decay) * values))

        square = tf.square(gradient) + EPSILON1
        if variable.shape.rank > 1:
            rows = mean('rows', tf.reduce_mean(square, axis=-1))
            columns = mean('columns', tf.reduce_mean(square, axis=-2))
            rows /= tf.reduce_mean(rows, axis=-1, keepdims=True)
            u = gradient * tf.math.rsqrt(rows)[..., None] * tf.math.rsqrt(columns)[..., None, :]
        else:
            u = gradient * tf.math.rsqrt(mean('v', square))
        size = tf.sqrt(tf.reduce_mean(tf.square(u)))  # root mean square
        return variable.assign_sub(u * (learning_rate / tf.maximum(1.0, size / CLIPPING_THRESHOLD)))


class Muon(Adam):
    """Muon for the matrices of the blocks; Adam for embeddings, gains and biases.

    q, k and v of c_attn are matrices of their own, and so are the two of each adapter.
    """

    def __init__(self, variables, weight_decay=0.0, beta2=BETA2):
        matrices = {n: v for n, v in variables.items() if '/h' in n and v.shape.rank > 1}
        others = {n: v for n, v in variables.items() if n not in matrices}
        super().__init__(others, weight_decay, beta2)
        self.matrices = matrices
        for name, variable in matrices.items():
            self.slot('muon/m', name, variable.shape)

    def apply(self, gradients, learning_rate, updates):
        matrices = {n: g for n, g in gradients.items() if n in self.matrices}
        others = {n: g for n, g in gradients.items() if n not in self.matrices}
        super().apply(others, learning_rate, updates)
        done = [[], []]
        for names in stacks({name: matrices_in(name, g.shape) for name, g in matrices.items()}):
            with tf.control_dependencies(done[-2]):  # no more than two need room at once
                some = {name: matrices[name] for name in names}
                done.append(self.update_stack(some, learning_rate))

    def update_stack(self, gradients, learning_rate):
        """Change variables whose matrices have one shape."""
        sizes = {name: matrices_in(name, gradient.shape) for name, gradient in gradients.items()}
        x = [apart(self.direction(name, g), *sizes[name]) for name, g in gradients.items()]
        steps = UPDATE_SIZE * x[0].shape[-1] ** 0.5 * orthogonal(tf.concat(x, axis=0))
        steps = tf.split(steps, [part.shape[0] for part in x])
        done = []
        for name, step in zip(sizes, steps, strict=True):
            variable = self.matrices[name]
            step = tf.reshape(together(step, *sizes[name]), variable.shape)
            done.append(variable.assign_sub(learning_rate * (step + self.weight_decay * variable)))
        return done

    def direction(self, name, gradient):
        """Where Nesterov's momentum points."""
        slot = self.slots[f'muon/m/{name}']
        return gradient + MOMENTUM * slot.assign(MOMENTUM * slot + gradient)


def matrices_in(name, shape):  # -> [3]: parts, n, m
    """How many matrices lie side by side in a variable, and their size."""
    *_, n, m = shape
    parts = 3 if '/c_attn/' in name and not name.endswith('/lora/a') else 1
    return parts, n, m // parts


def apart(x, parts, n, m):  # [..., n, parts * m] -> [parts, n, m], or [parts, m, n] if m < n
    x = tf.transpose(tf.reshape(x, [n, parts, m]), [1, 0, 2])
    return tf.linalg.matrix_transpose(x) if m < n else x


def together(x, parts, n, m):  # what `apart` gave -> [n, parts * m]
    x = tf.linalg.matrix_transpose(x) if m < n else x
    return tf.reshape(tf.transpose(x, [1, 0, 2]), [n, parts * m])


def stacks(matrices):  # {name: (parts, n, m)} -> lists of names
    """Which variables' matrices are of one shape, and together no more than STACK numbers."""
    by_sides = {}
    for name, (_, n, m) in matrices.items():
        by_sides.setdefault((min(n, m), max(n, m)), []).append(name)
    for names in by_sides.values():
        stack, size = [], 0
        for name in names:
            numbers = math.prod(matrices[name])
            if stack and size + numbers > STACK:
                yield stack
                stack, size = [], 0
            stack, size = [*stack, name], size + numbers
        yield stack


def orthogonal(x):  # [matrices, n, m], n <= m -> the same
    """The same singular vectors, with singular values of about 1; those of 0 stay 0."""
    x /= tf.norm(x, axis=[-2, -1], keepdims=True) + 1e-7
    for a, b, c in POLYNOMIALS:
        square = tf.matmul(x, x, transpose_b=True)  # [matrices, n, n]
        x = a * x + tf.matmul(b * square + c * tf.matmul(square, square), x)
    return x
