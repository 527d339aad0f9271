"""Stream processors of others, each a script that runs in an environment of its own. Layer: none (outside the package)."""
