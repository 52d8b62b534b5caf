"""Which parts of a model are trained."""

import re
from collections.abc import Sequence

from torch import nn


def check_expressions(names: Sequence[str], setting: str) -> None:
    """Check that names of parts are regular expressions.

    Raises:
        ValueError: one is not.
    """
    for expression in names:
        try:
            re.compile(expression)
        except re.error as error:
            raise ValueError(
                f"{setting}: {expression!r} is no regular expression: {error}"
            ) from error


def train_only(model: nn.Module, names: Sequence[str], setting: str) -> None:
    """Let gradients reach the parameters whose names match one of the regular expressions.

    Args:
        model: changed in place.
        names: matched from the start of a name; "" matches all.
        setting: where they come from, for the message.

    Raises:
        ValueError: an expression matches none, or there is no expression.
    """
    parameters = dict(model.named_parameters())
    if not names:
        raise ValueError(f"{setting}: names no part to train")
    for expression in names:
        if not any(re.match(expression, name) for name in parameters):
            raise ValueError(f"{setting}: no parameter has a name like {expression!r}")
    for name, parameter in parameters.items():
        parameter.requires_grad_(any(re.match(expression, name) for expression in names))
