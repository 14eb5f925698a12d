"""log x! is left out: harmless for the states, wrong for every likelihood and for what is built on it.

marks: log-emission 4, e-step 18, fit 10, numbers 5
"""


# %% part="log-emission"
def log_emission(counts, rates):
    counts = np.asarray(counts)[:, None]
    return counts * np.log(rates) - rates
