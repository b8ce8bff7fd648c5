"""`python -m mcsdns`."""

from mcsdns.cli import main

if __name__ == "__main__":
    main()
