"""Open sessions of a process share torch's precision switches; no session changes them while another needs them."""

import pytest
import torch

from zooforge.zoo_jobs.engines import precision
from zooforge.zoo_jobs.engines.cuda import Place


class Session:
    """A session that needs the switches."""


def test_a_session_that_ends_leaves_its_neighbour_in_float32() -> None:
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.allow_tf32 = True
    one, other = Session(), Session()
    place, neighbour = Place(torch.device("cpu")), Place(torch.device("cpu"))
    precision.claim(one, "float32")
    with place.active():
        precision.claim(other, "float32")
        entered = neighbour.active()
        entered.__enter__()
    precision.release(one)
    assert torch.get_float32_matmul_precision() == "highest"
    assert not torch.backends.cudnn.allow_tf32
    entered.__exit__(None, None, None)
    precision.release(other)


def test_one_process_computes_in_one_precision_at_a_time() -> None:
    one, other = Session(), Session()
    precision.claim(one, "tf32")
    assert torch.get_float32_matmul_precision() == "high" and torch.backends.cudnn.allow_tf32
    with pytest.raises(RuntimeError, match="a session in tf32 is open"):
        precision.claim(other, "bf16")
    precision.release(one)
    precision.claim(other, "bf16")
    assert torch.get_float32_matmul_precision() == "highest" and not torch.backends.cudnn.allow_tf32
    precision.release(other)


def test_a_session_that_was_dropped_without_closing_holds_nothing() -> None:
    session = Session()
    precision.claim(session, "tf32")
    del session
    other = Session()
    precision.claim(other, "float32")
    precision.release(other)
