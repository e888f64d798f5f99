"""Sizes in words. Pure."""


def human_bytes(count: float) -> str:
    """``count`` bytes in a binary unit, e.g. "3.2 MiB" or "17 B"."""
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if count < 1024 or unit == "TiB":
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    raise AssertionError(count)
