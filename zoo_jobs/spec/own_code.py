"""Networks that are a user's code: how a spec's file names the code, and the facts that the spec stores. Pure."""

from typing import Annotated, Any

from pydantic import Field

from ..closed import Closed
from ..data.registry import Count
from ..errors import InputError
from ..models.code_network import Code, CodeNetwork

MAX_CODE_BYTES = 64 * 1024  # a request to the cluster contains the text and is passed in an environment variable
NUM_AXES = 8
MAX_TENSORS = 100_000

Length = Annotated[int, Field(ge=0, lt=2**31)]
NamedShapes = Annotated[
    tuple[tuple[str, Annotated[tuple[Length, ...], Field(max_length=NUM_AXES)]], ...], Field(max_length=MAX_TENSORS)
]
ClassName = Annotated[str, Field(alias="class", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$", max_length=100)]


class CodeFile(Closed):
    """The place of a network's code, as a spec's file names it."""

    file: Annotated[str, Field(min_length=1)]
    """Path of a Python file, relative to the spec's file. It may import installed packages, but no other file."""
    class_name: ClassName
    """Name of the torch.nn.Module in it."""


class OwnCode(Closed):
    """A network that is code: its text, and facts that were found by running it once, so readers need not run it."""

    code: Annotated[str, Field(min_length=1, max_length=MAX_CODE_BYTES)]
    """Text of the file. The run id depends on its SHA-256."""
    class_name: ClassName
    """Name of the torch.nn.Module in it."""
    in_channels: Count
    """Channels of the images."""
    image_size: Count
    """Height and width of the images in pixels."""
    num_classes: Count
    """Number of outputs of the network."""
    parameters: NamedShapes
    """Names and shapes of the parameters, in the order of the state dict."""
    buffers: NamedShapes = ()
    """Names and shapes of float32 buffers, in the order of the state dict."""
    counters: tuple[str, ...] = ()
    """Names of the int64 scalars of the state dict."""
    dropouts: NamedShapes = ()
    """Names of the dropout layers, and the shape of their input for one image."""
    num_macs: Count
    """Multiply-adds of the forward pass for one image."""
    num_train_macs: Count
    """Multiply-adds of forward and backward pass for one image."""

    @property
    def text(self) -> Code:
        return Code(self.code, self.class_name)

    @property
    def name(self) -> str:
        """The name of the network in manifests: ``code-`` and 8 hex digits."""
        return self.text.name

    @property
    def content(self) -> dict[str, str]:
        """The values that are part of a run's digest. The facts follow from them."""
        return {"class": self.class_name, "sha256": self.text.sha256}

    @property
    def network(self) -> CodeNetwork:
        return CodeNetwork(
            code=self.text,
            in_channels=self.in_channels,
            image_size=self.image_size,
            num_classes=self.num_classes,
            parameters=self.parameters,
            buffers=self.buffers,
            counter_names=self.counters,
            dropouts=self.dropouts,
            num_macs=self.num_macs,
            num_train_macs=self.num_train_macs,
        )

    def to_json(self) -> dict[str, Any]:
        """JSON that ``OwnCode`` reads back."""
        dumped: dict[str, Any] = self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        return dumped


def own_code(network: CodeNetwork) -> OwnCode:
    """The ``OwnCode`` that a spec stores for a network."""
    return OwnCode.model_validate(
        {
            "code": network.code.text,
            "class": network.code.class_name,
            "counters": network.counter_names,
            **{
                name: getattr(network, name)
                for name in OwnCode.model_fields
                if name not in ("code", "class_name", "counters")
            },
        }
    )


def check_allowed(name: str, architecture: Any, allow_code: bool) -> None:
    """Raises InputError if the ``architecture`` of the zoo ``name`` is code and ``allow_code`` is false."""
    if isinstance(architecture, OwnCode) and not allow_code:
        raise InputError(
            f"{name}: its network is code, class {architecture.class_name} ({architecture.name}), and is run only with "
            "--allow-code; read it first, since it has all your rights"
        )
