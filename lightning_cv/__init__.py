"""Computer-vision experiments on Lightning. Importing this package imports nothing heavy."""

import os

__version__ = "0.1.0"

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # albumentations asks the network for updates when imported
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # W&B reports its own errors to a third party
