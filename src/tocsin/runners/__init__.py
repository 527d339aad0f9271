"""Programs around the engine: the demo, and what replays and verifies. Layer: runners."""
