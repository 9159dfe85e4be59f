"""The command line from a bare checkout: `python cli.py fit pythia --law unified`."""

from qidbayes.cli import main

if __name__ == "__main__":
    main()
