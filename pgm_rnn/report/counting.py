"""`pgm-rnn fit markov-chain`: the estimate by counts, scored, shown and saved like every fit."""

from pgm_rnn.emissions import Bernoulli, Categorical
from pgm_rnn.kernels.compilation import working_seconds
from pgm_rnn.models.markov_chain import MarkovChain
from pgm_rnn.report.driving import check_driven
from pgm_rnn.report.fitted import Job, Outcome, announce, check_job, finish, material_of
from pgm_rnn.report.material import FileOptions

FILE = FileOptions(emission="categorical", valid_fraction=0.1, test_fraction=0.2)
"""How a file is read and split by default."""


def fit_markov_chain(job: Job, *, pseudo_count: float) -> Outcome:
    """Fit a Markov chain by counting the transitions of the training data.

    Raises:
        ValueError: a negative pseudo-count, or a source that is missing, unreadable or has neither symbols nor bits.
    """
    if not pseudo_count >= 0:
        raise ValueError(f"expected --pseudo-count of at least 0, got {pseudo_count}")
    folder = check_job(job, "markov-chain", 1)
    material = material_of(job, FILE)
    if not isinstance(material.family, Categorical | Bernoulli):
        raise ValueError(
            f"expected symbols or bits for markov-chain, got {job.source}, whose observations are "
            f"{material.family.support}; use pgm-rnn fit hmm"
        )
    check_driven("markov-chain", None, material.train)
    announce(job, material, f"Markov chain, {type(material.family).__name__} emission, by counts")
    begun = working_seconds()
    model = MarkovChain.from_counts(*material.train[:2], emission=material.family, pseudo_count=pseudo_count)
    seconds = working_seconds() - begun
    outcome = Outcome(model, "the end of the data", 1, "pass", seconds, "", {"pseudo_count": pseudo_count})
    finish(job, folder, material, outcome)
    return outcome
