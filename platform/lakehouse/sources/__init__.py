"""What sources have for the lake, and how they are asked for it. Nothing here knows Dagster."""
