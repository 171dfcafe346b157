"""What is shipped to where tables run: building it, keeping it, and naming the one that a run uses."""
