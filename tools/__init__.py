"""Development tools, which are not in the installed package; each is run from a checkout.

matrix              long checks on every Python, by `make matrix` and `make nightly`; needs nothing but Python itself
damages             damages the models on purpose and measures which claims detect it
claims_pages        writes docs/claims.md and docs/errata.md
experiments_page    writes docs/experiments/README.md and its pictures
"""
