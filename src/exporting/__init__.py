"""A checkpoint to files that other programs serve.

litert_weights    a checkpoint's weights as a .tflite takes them
litert_graph      model.py as LiteRT runs it best
tflite_file       a .tflite of any size, written weight by weight
export            the command: a .tflite, or a SavedModel
"""
