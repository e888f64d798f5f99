"""Weight of the KL term in each sparsification epoch. Pure: the ``lanes`` engine runs without torch."""

LAMBDA_EPOCHS = 25
"""Epochs over which the weight grows by 0.01 unless a spec says otherwise: the reference's number of twin epochs."""


def kl_weight(epoch: int, lambda_epochs: int = LAMBDA_EPOCHS) -> float:
    """lambda in training epoch ``epoch`` (1 is the first): 0, then 0.01 / ``lambda_epochs`` more each, at most 1.

    The reference divides by the number of twin epochs, which is 25 in its scripts; here the divisor does not follow the
    number of epochs, so that twins can be trained longer without becoming others. Epoch 0 trains nothing and has
    a negative weight, which the reference shows in the losses of its first row.
    """
    return min(1.0, 0.01 * (epoch - 1) / lambda_epochs)
