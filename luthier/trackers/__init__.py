"""Where else a run can be followed: one file for each service, chosen by `--track`."""
