"""The settings of an environment, and the values that they refer to."""
