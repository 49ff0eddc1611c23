"""JUnit XML of a run's assertions: one test case each; CI systems show them as tests."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from aiperf.metrics.summary import Summary
from aiperf.reports import Exporter

__all__ = ["EXPORTER", "render_junit"]


def render_junit(summary: Summary, name: str = "aiperf") -> bytes:
    """A test suite with a case per assertion, and one for the certificate where there is one (never a failure)."""
    missed = [g for g in summary.assertions if not g.passed]
    suites = Element("testsuites", name=name, tests=str(len(summary.assertions)), failures=str(len(missed)), errors="0")
    seconds = f"{summary.duration_s or 0.0:.3f}"
    suite = SubElement(
        suites,
        "testsuite",
        name=name,
        tests=str(len(summary.assertions)),
        failures=str(len(missed)),
        errors="0",
        skipped="0",
        time=seconds,
    )
    properties = SubElement(suite, "properties")
    for key, value in _properties(summary):
        SubElement(properties, "property", name=key, value=value)
    for checked in summary.assertions:
        case = SubElement(suite, "testcase", classname=f"{name}.assert", name=checked.text, time="0")
        if checked.passed:
            SubElement(case, "system-out").text = f"actual: {checked.actual}"
            continue
        reason = f" ({checked.reason})" if checked.reason else ""
        failure = SubElement(case, "failure", type="assertion", message=f"actual: {checked.actual}{reason}")
        failure.text = f"{checked.text}\nactual: {checked.actual}{reason}"
    indent(suites)
    text: bytes = tostring(suites, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _properties(s: Summary) -> list[tuple[str, str]]:
    out = [("success_rate", s.success_text.removeprefix("Success Rate: ")), ("token_provenance", s.count_source)]
    if s.certificate is not None:
        out.append(("certificate", s.certificate.verdict))
    return out


EXPORTER = Exporter(
    what="JUnit",
    path=lambda run: run.config.output.junit or run.dir / "junit.xml",
    render=lambda run: render_junit(run.summary()),
    is_wanted=lambda config: config.output.junit is not None,
    order=50,
)
