"""Sets the control of a run, whatever it was before."""

from zooforge.storage.runs.run_files import Control, read_control, write_control
from zooforge.storage.stores.protocol import ObjectStore


def set_control(store: ObjectStore, run: str, control: Control) -> None:
    assert write_control(store, run, control, read_control(store, run))
