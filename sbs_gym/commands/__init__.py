"""The subcommands of `sbs-gym`, one module each: `SUMMARY`, `HELP` and `run(words)`."""
