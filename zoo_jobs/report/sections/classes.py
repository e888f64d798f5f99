"""Results by class, of each model at its last epoch whose weights are kept."""

import numpy as np

from .. import words
from ..blocks import Paragraph, Row, Section, Table, number
from ..contents import Contents
from ..statistics import quantiles
from .tables import QUANTILE_HEADS

COLLAPSED = 0.9


def section(contents: Contents) -> Section | None:
    by_class = contents.by_class
    if by_class is None:
        return None
    rows: list[Row] = [
        [
            number(str(label)), number(words.count(int(images))), number(words.percent(float(predicted))),
            *(number(words.percent(float(value))) for value in quantiles(recall_N)),
        ]
        for label, (images, predicted, recall_N) in enumerate(
            zip(by_class.images_C, by_class.predicted_C, by_class.recall_NC.T, strict=True)
        )
    ]  # fmt: skip
    collapsed = words.count(int((by_class.largest_N > COLLAPSED).sum()), "model")
    text = (
        "The recall of a class is the share of its test images that a model classifies correctly; the table has its "
        f"quantiles over models. The median macro recall, the mean over classes, is "
        f"{words.percent(float(np.nanmedian(by_class.macro_N)))}. {collapsed} gave one answer for more than "
        f"{words.percent(COLLAPSED, 0)} of the images."
    )
    heads = ["Class", "Test images", "Share of answers", *QUANTILE_HEADS]
    table = Table("Recall by class on the test split, at the last epoch of each model", heads, rows)
    return Section("classes", "Results by class", [Paragraph(text), table])
