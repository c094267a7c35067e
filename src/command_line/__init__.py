"""Command lines, which know no model and no text.

flags             a dataclass is the flags of a command, their defaults, their help and its checks
signature         a function's parameters are the flags of a command
names             what was meant by one that does not exist
quiet             TensorFlow without its noise at each start
streams           standard output where nobody reads it any more
escaping          foreign text that gives a terminal no orders
invocation        what a person types to start a command, as this process was started
"""
