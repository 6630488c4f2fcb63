"""Code generators: each turns a graph into something a device runs."""
