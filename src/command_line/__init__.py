"""Command lines, which know no model and no text.

flags             a dataclass is the flags of a command, their defaults, their help and its checks
invocation        what a person types to start a command, as this process was started
"""
