"""What is said of a network in words: the same lines in its code and on its card."""

from __future__ import annotations

from metad2a.export.design import Design


def facts(design: Design) -> dict[str, str]:
    """Return the name and the value of each fact, on one line each."""
    sizes = ", ".join(f"{name} {value}" for name, value in design.macro.items())
    told = {
        "space": design.space.name,
        "architecture": design.space.format(design.architecture),
        "sizes": sizes,
        "classes": f"{design.classes:,}",
        "parameters": f"{design.cost.params:,}",
        "MACs": f"{design.cost.macs:,} for one image of {design.side}x{design.side} pixels",
    }
    if design.latency_ms is not None:
        told["latency"] = f"{design.latency_ms:.2f} ms an image, where it was suggested"
    if design.prediction is not None:
        accuracy, low, high = design.prediction
        told["predicted"] = (
            f"{accuracy:.1f} % test accuracy, 90 % interval {low:.1f} to {high:.1f} %"
        )
    if design.measured is not None:
        told["measured"] = f"{design.measured.accuracy:.1f} % ({design.measured.protocol})"
    if design.reason:
        told["reason"] = design.reason
    # Whatever was typed somewhere, a line stays a line.
    return {name: " ".join(value.split()) for name, value in told.items()}


def usage(design: Design) -> str:
    """Return what the network takes and gives, in sentences."""
    values = (
        "0 to 1"
        if design.standardisation is not None
        else "standardised to mean 0 and deviation 1 in each channel"
    )
    return (
        f"Takes float RGB images (batch, 3, height, width), {values}, and gives logits "
        f"(batch, {design.classes}). Any size does; it was made for {design.side}x"
        f"{design.side} pixels."
    )
