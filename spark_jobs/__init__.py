"""The data plane: everything that touches rows. It knows PySpark and never imports the control plane."""
