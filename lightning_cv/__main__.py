"""`python -m lightning_cv` is `lightning-cv`."""

from lightning_cv.cli import main

raise SystemExit(main())
