"""``python -m unianimate``, which is how torchrun starts the command."""

from unianimate.cli.app import main

if __name__ == "__main__":
    main()
