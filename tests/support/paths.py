"""Where the clone lies."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
