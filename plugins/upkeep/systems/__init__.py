"""System files: YAML to `System` and `Target`, with errors that name file, line, key and cure."""
