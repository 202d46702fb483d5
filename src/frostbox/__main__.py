"""`python -m frostbox`: the same as the command `frostbox`."""

from frostbox.cli import main

main()
