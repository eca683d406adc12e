"""The command line: one module `cmd_<verb>` for every verb, each imported only when it is run."""
