"""The arithmetic of a zoo: the precisions and memory formats that a spec may ask for. Pure."""

Precision = str  # a key of PRECISIONS
MemoryFormat = str  # a key of MEMORY_FORMATS

PRECISIONS: dict[Precision, str] = {
    "float32": "float32",
    "tf32": "float32 whose products round their factors to TF32 (10 bits of mantissa), on CUDA devices only",
    "bf16": "bfloat16 autocast: products in bfloat16; weights, their updates, normalisations and losses in float32",
}
"""Each changes the numbers of a zoo, so it is part of the run's identity unless it is the first."""

MEMORY_FORMATS: dict[MemoryFormat, str] = {
    "contiguous": "channels before places",
    "channels_last": "channels after places, which the tensor cores of GPUs read",
}
