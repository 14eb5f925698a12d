"""The model card: the model, its data with their licence, its training, its scores and its weaknesses."""

import shlex
from typing import Any

from pgm_rnn.data.catalogue import DATASETS
from pgm_rnn.inference.svi.label_scores import Confusion
from pgm_rnn.sequence_model import SequenceModel
from pgm_rnn.storage import Description, Model
from pgm_rnn.zoo.comparisons import ESTIMATES, estimated, is_in_sample, shown
from pgm_rnn.zoo.label_references import LabelReference
from pgm_rnn.zoo.references import Reference


def card(
    name: str, description: Description, model: Model, reference: Reference | LabelReference, failure_modes: str
) -> str:
    """The card as Markdown."""
    info = description.info
    parts = [f"# {name}", _facts(description, model), _scores(info), _trained(info), *_published(name, info, model)]
    parts += ["## What it gets wrong", failure_modes.strip()]
    if info.get("confusions"):
        split, confused = info["scores"][-1]["split"], [str(Confusion(**pair)) for pair in info["confusions"]]
        parts.append(f"Labels most often taken for others on the {split} split: {', '.join(confused)}.")
    parts.append(_reference(name, reference))
    return "\n\n".join(parts) + "\n"


def _facts(description: Description, model: Model) -> str:
    arguments = description.arguments
    families = {key: _family(value["family"]) for key, value in arguments.items() if isinstance(value, dict)}
    left_out = {"first", *families, *(key for key, value in arguments.items() if value is None)}
    sizes = {key: value for key, value in arguments.items() if key not in left_out}
    if "emission" in families:
        families = {"observations": f"{families['emission']}, first={arguments['first']}"}
    rows = {
        "model": f"`{description.name}`, " + ", ".join(f"{key} {value}" for key, value in sizes.items()),
        **families,
        "parameters": f"{sum(p.numel() for p in model.parameters()):,}, {description.dtype}",
        "data": f"{description.info['data']}: {description.info['description']}",
    }
    legend = description.info.get("legend") or {}
    if legend.get("inputs"):
        rows["inputs"] = ", ".join(legend["inputs"])
    if description.info["data"] in DATASETS:
        rows["licence of the data"] = DATASETS[description.info["data"]].licence
    return "\n".join(f"- {key}: {value.rstrip(', ')}" for key, value in rows.items())


def _family(family: dict[str, Any]) -> str:
    return f"{family['name']}({', '.join(str(size) for size in family['arguments'].values() if size is not None)})"


def _scores(info: dict[str, Any]) -> str:
    scores = info["scores"]
    if "nats_per_label" in scores[0]:
        return _label_scores(info)
    rows = ["| split | nats per step | standard error | bound | sequences | steps |", "|---|---|---|---|---|---|"]
    in_sample = is_in_sample(info)
    for score in scores:
        numbers = (f"{score['nats_per_step']:.4f}", _rounded(score["standard_error"]), score["bound"])
        split = "train, the whole series" if in_sample else score["split"]
        rows.append("| " + " | ".join([split, *numbers, _count(score, "sequences"), _count(score, "steps")]) + " |")
    note = "Sum of nats over the number of steps, all entries, first step included; the error is that over sequences."
    if in_sample:
        note = (
            "Sum of nats over the number of steps, each given all before it; the error is that over steps. The model "
            "was fitted to these very steps: this says how well it fits, not how well it predicts."
        )
    return "\n".join(rows) + "\n\n" + note


def _published(name: str, info: dict[str, Any], model: Model) -> list[str]:
    """The entry's estimates beside published ones, if there are any."""
    if name not in ESTIMATES or not isinstance(model, SequenceModel):
        return []
    rows = ["| quantity | this entry | published | source |", "|---|---|---|---|"]
    for estimate in ESTIMATES[name]:
        ours = shown(estimated(model, info, estimate))
        rows.append(f"| {estimate.quantity} | {ours} | {shown(estimate.published)} | {estimate.source} |")
    return ["## Beside published estimates", "\n".join(rows)]


def _label_scores(info: dict[str, Any]) -> str:
    head = ("split", "nats per label", "standard error", "accuracy", "standard error", "sequences", "labels")
    rows = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    which = "filter" if "filter" in info else "smoother"
    exact = [{**score, "split": f"{score['split']}, exact {which}"} for score in info.get(which, [])]
    for score in [*info["scores"], *exact]:
        figures = ("nats_per_label", "standard_error", "accuracy", "accuracy_error")
        numbers = [_rounded(score[figure]) for figure in figures]
        cells = [score["split"], *numbers, _count(score, "sequences"), _count(score, "labels")]
        rows.append("| " + " | ".join(cells) + " |")
    given = "sequence up to it" if which == "filter" else "whole sequence"
    note = f"Sum of -log p(label | {given}) over the number of labels, exact; the errors are those over sequences."
    if exact:
        note += f" The exact {which} is that of the model that drew the data: on average no law of labels is better."
    return "\n".join(rows) + "\n\n" + note


def _count(score: dict[str, Any], what: str) -> str:
    return f"{score[f'num_{what}']:,}"


def _rounded(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _trained(info: dict[str, Any]) -> str:
    """The commands that made the model, and their running times."""
    before = info["fit"].get("start")
    commands = [*([before["command"]] if before else []), info["command"]]
    lines = "\n".join(f"    {shlex.join(shlex.split(command))}" for command in commands)
    rounds = next((f"{info[unit]} {unit}" for unit in ("epochs", "iterations") if unit in info), "counted")
    first = f"{before['epochs']} epochs in {before['seconds']:.0f} s, then " if before else ""
    return (
        f"{lines}\n\n"
        f"Seed {info['seed']}; {first}{rounds} in {info['seconds']:.0f} s, stopped by {info['stopped_by']}; "
        f"pgm_rnn {info['pgm_rnn']}, torch {info['torch']}."
    )


def _reference(name: str, reference: Reference | LabelReference) -> str:
    if isinstance(reference, LabelReference):
        return (
            f"## Reference\n\n{len(reference.log_probs)} sequences of drawn inputs, with labels drawn from the model: "
            f"{reference.nats_per_label:.6f} nats per label, exact. `pgm_rnn.zoo.reference({name!r})` has them with "
            "log p(y | x) of each."
        )
    several = f"{len(reference.data.lengths)} sequences, {reference.num_steps} steps"
    given = "" if reference.data.inputs is None else ", given standard normal inputs"
    return (
        f"## Reference\n\n{several}, drawn from the model{given}: {reference.nats_per_step:.6f} nats per step, "
        f"{reference.bound}. `pgm_rnn.zoo.reference({name!r})` has them with the log marginal likelihood of each."
    )
