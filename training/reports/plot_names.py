"""Where do the plots of a run lie? For whoever draws them, and for who publishes or shows them, without drawing."""

FOLDER = "plots"
"""Of a run: where the plots are."""

NAMES = ("loss", "scatter", "curves", "labels", "confusion", "calibration")
"""Of all plots that there can be; each is a file `NAME.png`."""

__all__ = ["FOLDER", "NAMES"]
