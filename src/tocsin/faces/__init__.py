"""Faces: where people meet the package. They parse, call and show, and compute nothing.

Enters: arguments, keys, clicks. Leaves: text, tables, files, exit codes. Layer: the top; nothing imports a face.
"""
