"""`python -m pgm_rnn`: the command line."""

from pgm_rnn.cli import run

if __name__ == "__main__":
    run()
