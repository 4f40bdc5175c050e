"""Figures as people read them."""

from contract.value import Json

_STEP = 1000.0


def in_bytes(size: float) -> str:
    """A file's size: `44.7 MB`, in powers of 1,000."""
    return _scaled(size, ("B", "kB", "MB", "GB", "TB"))


def in_short(count: float) -> str:
    """A large count: `11.2 M`."""
    return _scaled(count, ("", "k", "M", "G", "T")).strip()


def _scaled(value: float, units: tuple[str, ...]) -> str:
    place = 0
    # Anything that would be rounded up to a thousand belongs to the next unit.
    while place < len(units) - 1 and float(f"{value:.3g}") >= _STEP:
        value, place = value / _STEP, place + 1
    digits = f"{value:.0f}" if place == 0 or value >= 100 else f"{value:.3g}"
    return f"{digits} {units[place]}"


def in_percent(fraction: float) -> str:
    """A fraction: `97.2 %`."""
    return f"{100 * fraction:.1f} %"


def in_points(fraction: float) -> str:
    """A signed difference between two fractions, in percentage points."""
    return in_change(100 * fraction, digits=1)


def in_change(difference: float, *, digits: int) -> str:
    """A signed difference: `+0.017`; what rounds to nothing has no sign."""
    text = f"{difference:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def in_times(ratio: float) -> str:
    """A ratio: `0.13×`."""
    return f"{ratio:.3g}×" if ratio < 0.995 or ratio > 1.005 else "1×"


def in_milliseconds(value: float) -> str:
    """A latency: `0.412 ms`."""
    return f"{value:.3g} ms" if value < 1000 else f"{value / 1000:.3g} s"


def in_seconds(value: float) -> str:
    """A duration: `4.2 s`, `3 min 12 s`."""
    if value < 60:
        return f"{value:.1f} s" if value >= 1 else f"{1000 * value:.0f} ms"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds} s"


def in_a_word(value: Json) -> str:
    """A parameter's value."""
    match value:
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case list():
            return ", ".join(in_a_word(entry) for entry in value) or "none"
        case dict():
            return ", ".join(f"{key} {in_a_word(entry)}" for key, entry in value.items())
        case None:
            return "none"
        case _:
            return str(value)
