"""The update of each variable from its gradient, one variable after the other.

`slots` is what an optimizer remembers between updates, under checkpoint names. `apply` is given the
number of updates before this one, so that nothing else has to be remembered.
"""

import tensorflow as tf

# Kingma and Ba 2014 (arXiv:1412.6980), algorithm 1, with the defaults of tf.train.AdamOptimizer.
# Its kernel adds epsilon to the square root of the uncorrected second moment: "epsilon hat" of the
# end of the paper's section 2.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8

# Shazeer and Stern 2018 (arXiv:1804.04235), algorithm 4, with the values of its section 9.
DECAY_EXPONENT, EPSILON1, CLIPPING_THRESHOLD = 0.8, 1e-30, 1.0


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
