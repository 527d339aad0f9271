"""The faces of a running engine: the HTTP door, what it shows of itself. Layer: faces."""
