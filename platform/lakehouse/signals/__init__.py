"""What the platform tells people: alerts, and where they go."""
