"""One module per command: parse, call, show. Heavy packages are imported inside, so that `--help` is quick."""
