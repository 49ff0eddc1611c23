"""Example: how much shorter the output is than the input."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from aiperf.metrics import metric
from aiperf.metrics.context import MetricContext


@metric("example_shrinkage", header="Example Shrinkage", unit="ratio", formula="OSL / ISL", console_order=9000)
def example_shrinkage(context: MetricContext) -> NDArray[np.float64]:
    """Output tokens per input token; a function over columns, one value per request, NaN where there is none."""
    return context.value("output_sequence_length") / context.value("input_sequence_length")
