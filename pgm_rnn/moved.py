"""Modules of 0.1.0 that have moved: an import by the old name gives the module at its new place, with a warning.

A module that became a package of the same name, such as `pgm_rnn.inference.smc`, is not in the table: the package
re-exports its names.
"""

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {
    "pgm_rnn.cli_fit": "pgm_rnn.cli.fit",
    "pgm_rnn.cli_gradient": "pgm_rnn.cli.gradient",
    "pgm_rnn.cli_labels": "pgm_rnn.cli.labels",
    "pgm_rnn.cli_options": "pgm_rnn.cli.options",
    "pgm_rnn.cli_reproduce": "pgm_rnn.cli.reproduce",
    "pgm_rnn.cli_saved": "pgm_rnn.cli.saved",
    "pgm_rnn.distributions.sequence_law": "pgm_rnn.sequence_model.sequence_law",
    "pgm_rnn.distributions.state_law": "pgm_rnn.sequence_model.state_law",
    "pgm_rnn.draws": "pgm_rnn.sequence_model.parameter_draws",
    "pgm_rnn.memory": "pgm_rnn.sequence_model.memory",
    "pgm_rnn.noise": "pgm_rnn.particles.noise",
    "pgm_rnn.observations": "pgm_rnn.sequence_model.observations",
    "pgm_rnn.parameters": "pgm_rnn.sequence_model.parameters",
    "pgm_rnn.priors": "pgm_rnn.sequence_model.priors",
    "pgm_rnn.programs": "pgm_rnn.sequence_model.programs",
    "pgm_rnn.inference.baum_welch": "pgm_rnn.inference.em.baum_welch",
    "pgm_rnn.inference.bounds": "pgm_rnn.inference.svi.bounds",
    "pgm_rnn.inference.checkpoints": "pgm_rnn.inference.svi.checkpoints",
    "pgm_rnn.inference.climb": "pgm_rnn.inference.em.climb",
    "pgm_rnn.inference.data_starts": "pgm_rnn.inference.em.data_starts",
    "pgm_rnn.inference.evaluation": "pgm_rnn.inference.svi.evaluation",
    "pgm_rnn.inference.gaussian_em": "pgm_rnn.inference.em.gaussian_em",
    "pgm_rnn.inference.gaussian_problem": "pgm_rnn.inference.kalman.problem",
    "pgm_rnn.inference.label_scores": "pgm_rnn.inference.svi.label_scores",
    "pgm_rnn.inference.linearisation": "pgm_rnn.inference.kalman.linearisation",
    "pgm_rnn.inference.linearised_filter": "pgm_rnn.inference.kalman.linearised_filter",
    "pgm_rnn.inference.metrics": "pgm_rnn.inference.svi.metrics",
    "pgm_rnn.inference.objectives": "pgm_rnn.inference.svi.objectives",
    "pgm_rnn.inference.particle_forecast": "pgm_rnn.inference.smc.forecasting",
    "pgm_rnn.inference.particle_run": "pgm_rnn.inference.smc.run",
    "pgm_rnn.inference.particle_smoothing": "pgm_rnn.inference.smc.paths",
    "pgm_rnn.inference.plan": "pgm_rnn.inference.svi.plan",
    "pgm_rnn.inference.processes": "pgm_rnn.inference.svi.processes",
    "pgm_rnn.inference.pyro_smc": "pgm_rnn.inference.smc.pyro_steps",
    "pgm_rnn.inference.random_starts": "pgm_rnn.inference.em.random_starts",
    "pgm_rnn.inference.regression": "pgm_rnn.inference.em.regression",
    "pgm_rnn.inference.run_state": "pgm_rnn.inference.svi.run_state",
    "pgm_rnn.inference.supervised": "pgm_rnn.inference.svi.supervised",
    "pgm_rnn.inference.training": "pgm_rnn.inference.svi.training",
    "pgm_rnn.inference.weighted_estimates": "pgm_rnn.inference.em.weighted_estimates",
}
"""New names of modules by their old names."""
NAMES = {
    "pgm_rnn.distributions": {"SequenceLaw": "pgm_rnn.sequence_model", "StateLaw": "pgm_rnn.sequence_model"},
}
"""Names that have moved out of modules that stay, with their new modules."""
METHODS = {
    "advance": "sequence_model.memory_of(model).step(h, z, read)",
    "check_latent": "sequence_model.conditionals.check_states(model.states, z, mask)",
    "drive": "sequence_model.memory_of(model).step(h, z, read)",
    "drivers": "sequence_model.memory_of(model).reads(x, inputs)",
    "first_memory": "sequence_model.memory_of(model).start(num_sequences, inputs_1)",
    "last_state": "model.forecast(x, num_steps)",
    "latent_log_probs": "sequence_model.densities.state_log_probs(model, data, h, first)",
    "next_memory": "sequence_model.memory_of(model).step(h, z, read)",
    "read": "sequence_model.memory_of(model).read(x, inputs_t)",
    "reads_state": "transition_reads_state",
    "sum_out_states": "model.log_marginal_likelihood(x)",
    "unroll_guide": "draw_guide of sequence_model.mixins.DrawsGuide",
    "unroll_memory": "sequence_model.memory_of(model).unroll(x, z, inputs)",
}
"""Attributes that `SequenceModel` had in 0.1.0, with their replacements."""


def moved_name(module: str, name: str) -> Any:
    """A name of `module` that has moved, with a warning that says where.

    Raises:
        AttributeError: a name that the module does not have and never had.
    """
    home = NAMES[module].get(name)
    if home is None:
        raise AttributeError(f"module {module!r} has no attribute {name!r}")
    warnings.warn(f"{module}.{name} is now {home}.{name}; import that", DeprecationWarning, stacklevel=3)
    return getattr(import_module(home), name)


class _Alias(Loader):
    """Loads the module of another name."""

    def __init__(self, new: str) -> None:
        self.new = new

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        warnings.warn(f"{spec.name} is now {self.new}; import that", DeprecationWarning, stacklevel=2)
        module = import_module(self.new)
        self.own = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Restore the module's own spec, which the import system has just replaced by that of the old name."""
        module.__spec__ = self.own


class Moved(MetaPathFinder):
    """Finds the old names in `MODULES`."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """A spec whose module is the one at the new place, None for any other name."""
        return ModuleSpec(fullname, _Alias(MODULES[fullname])) if fullname in MODULES else None


def install() -> None:
    """Make the import system find old names; calls after the first do nothing."""
    if not any(isinstance(finder, Moved) for finder in sys.meta_path):
        sys.meta_path.append(Moved())
