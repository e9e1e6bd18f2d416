"""Groups of verbs, one file each; `cli` adds them to the command line."""
