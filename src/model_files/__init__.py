"""Models on disk, in the files of OpenAI and of Shepperd.

fetching          a file over HTTP
download          OpenAI's server to a model directory
model_directory   which directory a name means, and which of its checkpoints is the latest
bundle            whether a checkpoint's index may be read
checkpoint        that directory to the tree of parameters and back
rotation          which checkpoints of a run stay
architecture      the sizes and the vocabulary of a model that is to be trained
"""
