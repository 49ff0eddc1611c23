"""The configuration: `model` (what there is), `resolve` (from where), `check` (what is wrong with it), `engine_settings` (for the engine)."""

from __future__ import annotations
