"""Diagnosis of a fitted model: one module for each section of the result of `pgm_rnn.diagnose`.

one_step        the laws p(x_t | x_{1:t-1}), exact or from particles
residuals       their residuals and PIT values, with tests
simulations     statistics of the data beside those of simulated data (posterior predictive checks)
coverage        how often forecasts' intervals hold what came
particles       effective sample sizes and Pareto k of the particle filter
guides          Pareto k of the importance weights of a guide
state_use       states without a share of the data, states that are alike
restarts        agreement of several starts of EM
switching       labels of states that change between draws of a Markov chain
"""
