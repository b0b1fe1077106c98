"""The command line: `forearm <command> [key=value ...]`."""
