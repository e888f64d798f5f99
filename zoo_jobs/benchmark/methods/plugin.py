"""Methods of other people: ``--method FILE.py:FUNCTION``, a function ``fit(states, labels) -> predict``."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...errors import InputError
from ..samples import Given
from .contract import Fit, Predict, Problem


def load_plugin(text: str) -> tuple[str, Fit]:
    """Name and method of ``FILE.py:FUNCTION``.

    ``fit`` gets the training states (``zooforge.storage.read.states.States``) and their labels [N], and returns a
    function that takes states and returns as many predictions. NumPy's global generator and torch's are seeded before.

    Raises:
        InputError: not of that form, no such file or function, or the file fails when it is imported.
    """
    place, colon, name = text.rpartition(":")
    path = Path(place).expanduser()
    if not colon or path.suffix != ".py" or not name:
        raise InputError(f"--method {text}: expected FILE.py:FUNCTION")
    if not path.is_file():
        raise InputError(f"--method {text}: there is no file {path}")
    spec = importlib.util.spec_from_file_location(f"zooforge_method_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _called(f"--method {text}: {path} cannot be imported", spec.loader.exec_module, module)
    function = getattr(module, name, None)
    if not callable(function):
        raise InputError(f"--method {text}: {path} has no function {name}")
    return f"{path.stem}:{name}", _wrapped(f"{path.stem}:{name}", function)


def _wrapped(name: str, function: Callable[..., Any]) -> Fit:
    def fit(problem: Problem) -> Predict:
        import torch

        np.random.seed(problem.seed)
        torch.manual_seed(problem.seed)
        predict = _called(f"method {name}: fit failed", function, problem.train.given.states, problem.train.truth)
        if not callable(predict):
            raise InputError(f"method {name}: fit returned {type(predict).__name__}, expected a function")

        def checked(given: Given) -> NDArray[Any]:
            answer = np.asarray(_called(f"method {name}: predict failed", predict, given.states))
            if answer.shape != (len(given),):
                raise InputError(f"method {name}: predictions of shape {list(answer.shape)}, expected [{len(given)}]")
            return answer.astype(np.float64) if problem.kind == "regression" else answer.astype(object)

        return checked

    return fit


def _called(failed: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a user's code. Any exception in it is bad input."""
    try:
        return function(*arguments)
    except Exception as error:
        raise InputError(f"{failed} ({type(error).__name__}: {error})") from error
