"""Draws the plots of a run, if matplotlib is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .bars import OURS, PEERS, RAW
from .measurements import MEASUREMENTS
from .measurements.base import Measurement
from .page import case_name, shown
from .results import Results

#: The colors of the other contenders; red and orange are the library's.
COLORS = ("tab:blue", "tab:cyan", "tab:brown", "tab:green", "tab:purple", "tab:gray")


def draw(results: Results, folder: Path) -> dict[str, Path]:
    """Draw one plot per measurement to ``folder``; return the files by the measurement's name."""
    try:
        import matplotlib
    except ImportError:
        return {}
    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    drawn = {}
    for measurement in MEASUREMENTS:
        if results.cases(measurement.name):
            figure, axes = pyplot.subplots(figsize=(9, 5), dpi=110)
            (_lines if len(results.cases(measurement.name)) > 1 else _columns)(axes, results, measurement)
            axes.set_title(measurement.title)
            axes.grid(True, which="major", alpha=0.3)
            figure.tight_layout()
            drawn[measurement.name] = folder / f"{measurement.name}.png"
            figure.savefig(drawn[measurement.name], metadata={"Software": None})
            pyplot.close(figure)
    return drawn


def _lines(axes: Any, results: Results, measurement: Measurement) -> None:
    metric = next(iter(measurement.metrics))
    for contender in shown(results, measurement):
        every = results.cases(measurement.name)
        cases = [case for case in every if (measurement.name, case, contender, metric) in results.values]
        runs = [results.values[measurement.name, case, contender, metric] for case in cases]
        medians = [sorted(values)[len(values) // 2] for values in runs]
        drawn = axes.plot(cases, medians, marker="o", markersize=4, label=contender, **_style(contender))
        axes.fill_between(cases, list(map(min, runs)), list(map(max, runs)), color=drawn[0].get_color(), alpha=0.12)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(results.cases(measurement.name))
    axes.set_xticklabels([case_name(measurement, case) for case in results.cases(measurement.name)])
    axes.minorticks_off()
    axes.set_xlabel(measurement.axis)
    axes.set_ylabel(metric.replace("_", " "))
    axes.legend(fontsize=8)


def _columns(axes: Any, results: Results, measurement: Measurement) -> None:
    metric = next(iter(measurement.metrics))
    case = results.cases(measurement.name)[0]
    names = [n for n in shown(results, measurement) if (measurement.name, case, n, metric) in results.values]
    runs = [sorted(results.values[measurement.name, case, name, metric]) for name in names]
    medians = [values[len(values) // 2] for values in runs]
    spread = [
        [m - v[0] for m, v in zip(medians, runs, strict=True)],
        [v[-1] - m for m, v in zip(medians, runs, strict=True)],
    ]
    colors = ["tab:red" if name in OURS else "black" if name == RAW else "tab:blue" for name in names]
    axes.barh(names, medians, xerr=spread, color=colors, alpha=0.8)
    axes.invert_yaxis()
    if max(medians) > 30 * min(medians):
        axes.set_xscale("log")
    axes.set_xlabel(metric.replace("_", " "))


def _style(contender: str) -> dict[str, Any]:
    if contender == RAW:
        return {"color": "black", "linestyle": ":"}
    if contender not in OURS:
        return {"linewidth": 1.0, "color": COLORS[PEERS.index(contender)]}
    return {"linewidth": 2.2, "color": "tab:red" if "uvloop" in contender else "tab:orange",
            "linestyle": "-" if contender.endswith("C") else "--"}
