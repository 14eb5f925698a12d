"""Long checks that `make matrix` and `make nightly` run; they need nothing but Python itself."""
