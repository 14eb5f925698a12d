"""The sign of the last term of Joseph's form: the noise of the observation makes the state more certain.

marks: joseph 0
"""


# %% part="joseph"
def joseph(P, K, C, R):
    """The covariance (D, D) after an update with gain K (D, M)."""
    rest = np.eye(len(P)) - K @ C
    return rest @ P @ rest.T - K @ R @ K.T
