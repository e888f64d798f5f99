"""The fields of a zoo's spec that preparing its data needs."""

from dataclasses import dataclass
from typing import Any

from zooforge.zoo_jobs.data.rules import Preprocessing, SplitRule

GREY = Preprocessing(mean=(0.1307,), std=(0.3081,))


MOST = SplitRule(train=4000, val=500, test=500, seed=42)


@dataclass(frozen=True)
class Spec:
    dataset: Any = "mnist5k"
    preprocessing: Preprocessing = GREY
    split: SplitRule = MOST
