# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # The demo, read and explained
#
# `make demo` trains a beta sweep on digits, an FCN and an SSD on drawn scenes, and writes `runs/demo`. This notebook
# reads such a folder. Where there is none it trains the short form of everything first (two batches each, under a
# minute): enough to see how the pieces fit, not enough for good pictures.

# %%
import json
import logging
import os
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("WANDB_SILENT", "true")
warnings.simplefilter("ignore")
os.chdir(next(place for place in (Path.cwd(), *Path.cwd().parents) if (place / "pyproject.toml").exists()))

from lightning_cv.cli import main

demo = Path("runs/demo")
if not (demo / "results.json").exists():
    demo = Path("runs/demo-short")
    logging.disable(logging.WARNING)
    assert main(["demo", "--fast", "--runs", str(demo)]) == 0
results = json.loads((demo / "results.json").read_text())
print(f"figures of {demo}, {results['seconds'] / 60:.1f} minutes of training and tests")

# %% [markdown]
# ## What beta buys
#
# The loss of a beta-VAE is reconstruction + beta x KL, both in nats an image: sums over pixels and latents, averaged
# over images. The KL is the rate, the number of nats the code may use; the reconstruction is the distortion. A larger
# beta moves a run to the left (a shorter code) and up (a worse picture). The ELBO, which is free of beta, is what runs
# are compared by.

# %%
figure, axes = plt.subplots(figsize=(6, 4))
for beta in sorted({row["beta"] for row in results["vae"]}):
    rows = [row for row in results["vae"] if row["beta"] == beta]
    axes.scatter([r["kl"] for r in rows], [r["reconstruction"] for r in rows], label=f"beta {beta:g}")
axes.set(xlabel="KL, nats an image (rate)", ylabel="reconstruction, nats an image (distortion)")
axes.legend()
plt.show()

# %% [markdown]
# ## What a latent does
#
# Each row moves one latent over its prior while the others stay; the most informative latent is on top. Rows that
# change nothing belong to latents that carry no information: beta has switched them off.

# %%
runs = sorted((demo / "vae" / "beta_vae_digits").glob("*/config.yaml"))
pictures = [sorted((run.parent / "previews").glob("traversal*.png"))[-1] for run in runs[::2]]
figure, axes = plt.subplots(1, len(pictures), figsize=(5 * len(pictures), 6))
for place, picture in zip(np.atleast_1d(axes), pictures, strict=True):
    place.imshow(Image.open(picture))
    place.axis("off")
plt.show()

# %% [markdown]
# ## Using a checkpoint in Python
#
# A checkpoint holds its settings and class names, so that it can be opened away from its run. Detectors have two verbs,
# `losses` and `detect`; here the second, on a scene no training saw.

# %%
from lightning_cv.cli.predictor import load_model
from lightning_cv.datasets import draw_scene
from lightning_cv.viz.boxes import above_score, detections_picture

checkpoint = next((demo / "detection" / "ssd_drawn").glob("*/checkpoints/best.ckpt"))
model = load_model(checkpoint, "cpu")
scene = draw_scene(12345)
with torch.no_grad():
    (found,) = model.task.predict_step(model.datamodule.prepare_image(scene.image)[None])
print(f"{len(scene.boxes)} objects, {len(above_score(found, 0.3)['boxes'])} found with a score of at least 30 %")
plt.figure(figsize=(5, 5))
plt.imshow(detections_picture(scene.image, above_score(found, 0.3), model.label_map))
plt.axis("off")
plt.show()

# %% [markdown]
# ## The same from the command line
#
# | to | command |
# | --- | --- |
# | train one beta | `lightning-cv fit --config vae/beta_vae_digits --model.beta 4` |
# | go on with a run | `lightning-cv resume runs/vae/beta_vae_digits/<run id>` |
# | test a checkpoint | `lightning-cv test --ckpt runs/.../checkpoints/best.ckpt` |
# | use it on photos | `lightning-cv predict --ckpt runs/.../checkpoints/best.ckpt --images photos --out predictions` |
