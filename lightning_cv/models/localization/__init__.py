"""Nets for classification with localization."""

from lightning_cv.models.localization.locator import Locator

__all__ = ["Locator"]
