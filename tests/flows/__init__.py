"""The flows and the command line, run as users run them."""
