"""``python -m serve`` is the ``cyberimage`` command."""

from serve.cli.main import main

if __name__ == "__main__":
    main()
