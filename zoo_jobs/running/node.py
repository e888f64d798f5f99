"""What the environment says of a node that may be taken away: how much work fits between its notice and its end."""

import logging
from collections.abc import Mapping

from ..errors import InputError
from ..planning.estimate import epoch_seconds_per_model
from ..planning.machines import machine
from ..planning.units import models_that_fit
from ..spec.twins import Zoo
from .notice import of_node

logger = logging.getLogger(__name__)


def most_models(zoo: Zoo, engine: str, environment: Mapping[str, str], grace_seconds: float) -> int | None:
    """The most models of a task, so that its epoch takes half of what ``ZOO_NOTICE_SECONDS`` leaves at most.

    None where no notice is set, or the machine of ``ZOO_MACHINE`` has no measured rate. Where not even one model
    fits, that is said, and tasks have one model: every notice then costs the epoch that is under way.
    """
    name = environment.get("ZOO_MACHINE")
    if not environment.get("ZOO_NOTICE_SECONDS") or not name:
        return None
    try:
        seconds = epoch_seconds_per_model(zoo, machine(name), engine)
    except InputError:
        return None
    if seconds is None:
        return None
    notice_seconds = of_node(environment, grace_seconds)
    fit = models_that_fit(seconds, notice_seconds)
    if fit == 0:
        logger.warning(
            "an epoch does not fit into the notice of a node; each notice costs the epoch that is under way",
            extra={"zoo": zoo.name, "epoch_seconds": round(seconds, 1), "notice_seconds": notice_seconds},
        )
    return max(1, fit)
