"""One module per command: parse, call, show.

Enters: arguments. Leaves: text on stdout, files, an exit code. Layer: faces. Heavy packages are imported inside the
functions, so that `--help` is quick.
"""
