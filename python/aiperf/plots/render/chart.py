"""A chart as a value: drawn where it is shown."""

from __future__ import annotations

from dataclasses import dataclass, field

from aiperf.plots import Spec
from aiperf.plots.render import Theme, render_png, render_svg, resolve

__all__ = ["Chart"]


@dataclass(frozen=True)
class Chart:
    """`tokens`: the spec with the tokens that a theme replaces. In a notebook it draws itself."""

    name: str
    tokens: Spec = field(repr=False)

    def spec(self, theme: Theme = "light") -> Spec:
        """Vega-Lite, complete: `altair.Chart.from_dict(chart.spec())`."""
        return resolve(self.tokens, theme)

    def svg(self, theme: Theme = "light") -> bytes:
        return render_svg(self.tokens, theme)

    def png(self, theme: Theme = "light") -> bytes:
        return render_png(self.tokens, theme)

    def _repr_svg_(self) -> str:
        return self.svg().decode()
