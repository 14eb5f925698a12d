"""Development tools, which are not in the installed package; each is run from a checkout.

matrix              long checks on every Python, by `make matrix` and `make nightly`; needs nothing but Python itself
pyros_tests         runs Pyro's own tests with our laws in Pyro's place; pyros_place and pyros_summary are its plugins
damages             damages the models on purpose and measures which claims detect it
claims_pages        writes docs/claims.md and docs/errata.md
experiments_page    writes docs/experiments/README.md and its pictures
"""
