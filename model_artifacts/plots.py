"""The model card's plots: pure functions from the common sections of `metrics.json` to accessible SVG and the same numbers.

`plots_of` draws what the file holds, and `not_drawn` names what it lacks; neither knows which model it is. A plot stands under
the card's heading `heading`; its table holds every number that is drawn, thinned where it says so (WCAG 2.2, 1.1.1). Sections,
of which anything else is ignored:

- `reliability`: rows of n, predicted, observed, low, high; of a quantity n, estimated, needed {estimate, low, high}; and
  `histogram`: rows of from, to, n;
- `curves`: roc [[false positive rate, true positive rate], …], precision_recall [[recall, precision], …], decision
  [{threshold, model, treat_all, a rival's name: …}, …], and under `rivals` by name the rivals' roc and precision_recall;
- `subgroups`: rows of texts, n and figures {estimate, low, high};
- `horizons`: rows of hour and figures by model;
- `attributions`: rows of label and mean_absolute;
- `risk_coverage`: rows of coverage and numbers;
- `explanation_curves`: share_of_inputs, and deletion and insertion: each by name a list of estimates at those shares.

To extend: a function from the content to plots in `plot_curves` or `plot_groups`, and its line in `_SOURCES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from model_artifacts.plot_curves import curves, explanation_curves, horizons, risk_coverage
from model_artifacts.plot_groups import attributions, reliability, reliability_plot, subgroups
from model_artifacts.plot_shapes import Content, Plot

__all__ = ["Content", "Plot", "drawn_sections", "not_drawn", "plots_of", "reliability_plot"]


@dataclass(frozen=True, slots=True)
class _Source:
    """A section of the file, what is drawn from it, and whether models of quantities have it too."""

    section: str
    name: str
    draw: Callable[[Content, str], Iterator[Plot]]
    of_quantities: bool = True
    replaces: bool = True  # the plots' tables say all that the section's own would
    expected: bool = True  # of every model; else its absence is none


def plots_of(content: Content, unit: str = "") -> tuple[Plot, ...]:
    """Every plot that `content`, a whole `metrics.json`, has the numbers for; `unit` is that of the model's quantity."""
    return tuple(plot for source in _SOURCES for plot in _drawn(source, content, unit))


def drawn_sections(content: Content, unit: str = "") -> frozenset[str]:
    """The sections whose own tables the plots make superfluous."""
    return frozenset(
        source.section for source in _SOURCES if source.replaces and any(True for _ in _drawn(source, content, unit))
    )


def not_drawn(content: Content, unit: str = "") -> tuple[str, ...]:
    """For each plot that is missing, "name: why", in words."""
    return tuple(
        f"{source.name}: `metrics.json` has {'no' if source.section not in content else 'nothing to draw in its'} "
        f"section `{source.section}`"
        for source in _SOURCES
        if source.expected and (source.of_quantities or not unit) and not _drawn(source, content, unit)
    )


def _drawn(source: _Source, content: Content, unit: str) -> list[Plot]:
    """The source's plots, none where the section is missing or is of another form."""
    if source.section not in content:
        return []
    try:
        return list(source.draw(content, unit))
    except (LookupError, TypeError, ValueError, AttributeError):
        return []


_SOURCES: tuple[_Source, ...] = (
    _Source("horizons", "AUROC by hour", horizons, replaces=False, expected=False),
    _Source("curves", "ROC, precision-recall and decision curves", curves, of_quantities=False),
    _Source("reliability", "reliability curve", reliability),
    _Source("subgroups", "forest of subgroups", subgroups, replaces=False),
    _Source("risk_coverage", "risk by coverage", risk_coverage),
    _Source("attributions", "contributions of the inputs", attributions),
    _Source("explanation_curves", "deletion and insertion curves", explanation_curves),
)
