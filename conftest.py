"""Plugins of the whole test suite; here because pytest takes them from the root only."""

pytest_plugins = ["tests.plugins.certificates", "tests.plugins.gateways", "tests.plugins.requires"]
