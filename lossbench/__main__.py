"""``python -m lossbench`` is the console script."""

from lossbench.cli import main

if __name__ == "__main__":
    main()
