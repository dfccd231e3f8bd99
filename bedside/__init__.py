"""The command line, the configuration, and the one place where everything is wired together."""
