"""Speed beside its peers, in one run; never a test. `make bench` or `python -m benchmarks`."""
