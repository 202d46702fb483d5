"""Seconds, bytes and counts as people read them."""

from __future__ import annotations


def seconds_text(seconds: float) -> str:
    """'0.4 s', '45 s', '3 min 20 s' or '2 h 5 min'."""
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.1f} s"
    if whole < 100:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def counted(number: int, noun: str) -> str:
    """'1 epoch', '1,200 epochs'."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size_text(count: int) -> str:
    """'3.1 MB' or '1.2 GB', decimal units as disks are sold."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"
