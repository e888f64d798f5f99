"""Weight of the KL term in each sparsification epoch. Pure: the ``lanes`` engine runs without torch."""


def kl_weight(epoch: int) -> float:
    """lambda in training epoch ``epoch`` (1 is the first): 0, then 0.0004 more each, at most 1.

    Epoch 0 trains nothing and has -0.0004, which the reference shows in the losses of its first row.
    """
    return min(1.0, 0.01 * (epoch - 1) / 25)
