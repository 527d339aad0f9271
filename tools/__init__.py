"""Developer's tools: run from the checkout, never shipped. Layer: none (outside the package)."""
