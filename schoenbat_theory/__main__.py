"""``python -m schoenbat_theory``: the same as the command ``schoenbat-theory``."""

from schoenbat_theory.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
