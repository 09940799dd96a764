"""Whether the W&B server can be talked to, asked before anything is sent."""

import os
import urllib.error
import urllib.request

from lightning_cv.errors import UserError

PUBLIC_SERVER = "https://api.wandb.ai"
ANSWERS_WITHIN = 10.0
"""Seconds that the server has to answer."""


def ask_server() -> None:
    """An error unless someone is logged in and the server answers, with whatever status."""
    from lightning_cv.tracking import logged_in  # imports wandb, which takes a second

    server = os.environ.get("WANDB_BASE_URL", PUBLIC_SERVER).rstrip("/")
    try:
        urllib.request.urlopen(f"{server}/healthz", timeout=ANSWERS_WITHIN).close()
    except urllib.error.HTTPError:
        pass  # it is there
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(f"the W&B server {server} does not answer ({reason}): nothing was sent") from None
    if not logged_in():
        raise UserError("nobody is logged in to W&B: run `wandb login`, or set WANDB_API_KEY; nothing was sent")
