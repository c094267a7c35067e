"""The update of each variable from its gradient, by TensorFlow 1's own kernels."""

import tensorflow as tf

# Kingma and Ba 2014 (arXiv:1412.6980), algorithm 1, with the defaults of tf.train.AdamOptimizer.
# Its kernel adds epsilon to the square root of the uncorrected second moment: "epsilon hat" of the
# end of the paper's section 2.
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam(tf.Module):
    """Adam with one learning rate. `slots` is what it remembers, under checkpoint names."""

    def __init__(self, variables):  # {name: variable}
        super().__init__()
        self.variables_by_name = variables
        self.slots = {}
        for name, variable in variables.items():
            for moment in ('m', 'v'):
                self.slots[f'adam/{moment}/{name}'] = tf.Variable(tf.zeros_like(variable))

    def apply(self, gradients, learning_rate, updates):
        """Update the variables; `updates`, [] float32, counts the updates before this one."""
        beta1_power = tf.pow(BETA1, updates + 1)
        beta2_power = tf.pow(BETA2, updates + 1)
        for (name, variable), gradient in zip(
            self.variables_by_name.items(), gradients, strict=True
        ):
            tf.raw_ops.ResourceApplyAdam(
                var=variable.handle,
                m=self.slots[f'adam/m/{name}'].handle,
                v=self.slots[f'adam/v/{name}'].handle,
                beta1_power=beta1_power,
                beta2_power=beta2_power,
                lr=learning_rate,
                beta1=BETA1,
                beta2=BETA2,
                epsilon=EPSILON,
                grad=gradient,
            )


class SGD(tf.Module):
    """Gradient descent; it remembers nothing."""

    def __init__(self, variables):
        super().__init__()
        self.variables_by_name = variables
        self.slots = {}

    def apply(self, gradients, learning_rate, updates):
        for variable, gradient in zip(self.variables_by_name.values(), gradients, strict=True):
            variable.assign_sub(learning_rate * gradient)
