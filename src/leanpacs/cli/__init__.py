"""The command line: reads settings, wires the parts together, prints."""
