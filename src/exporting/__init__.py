"""A checkpoint to files that other programs serve.

litert_graph      model.py as LiteRT runs it best
export            the command: a .tflite, or a SavedModel
"""
