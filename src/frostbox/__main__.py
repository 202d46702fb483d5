"""`python -m frostbox`: the same as the command `frostbox`."""

from frostbox.cli import main

if __name__ == "__main__":
    main()
