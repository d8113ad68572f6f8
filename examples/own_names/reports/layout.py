"""How her newsletters look."""


def heading(tick: int) -> str:
    """The first words of a newsletter."""
    return f"[No. {tick + 1}]"
