"""
9. Anchors: boxes that wait for objects
=======================================

A cell of the grid had one answer, for things of any size and shape. **Anchors** give it several:
at every cell, boxes of fixed shapes lie in wait, and each learns the objects that look like it.
They also lie on three maps, fine and coarse. That is how SSD (Liu et al. 2016) and most detectors
since then work.

On this page: shapes from k-means, offsets, matching, and the trouble with background.
"""

# %%
# Which shapes?
# -------------
# Those that the data has. **k-means** finds groups of boxes that are alike and takes their
# average. *Alike* is measured by IoU, as if all boxes had the same centre (Redmon & Farhadi
# 2017); by plain distance, large boxes would decide everything.

# sphinx_gallery_thumbnail_number = 2
import numpy as np
import torch
from helper import WORK, data_folder, frame, plot, show, trained, voc

from frostbox import data
from frostbox.data.anchors import size_iou, suggest_anchors

train, val = data.load(data_folder(), "train"), data.load(data_folder(), "val")
sides = np.array(
    [
        ((o.box[2] - o.box[0]) / image.width, (o.box[3] - o.box[1]) / image.height)
        for image in train.images
        for o in image.objects
    ]
)
suggested = suggest_anchors(sides, range(1, 13))
nine = np.array(next(s for s in suggested if s["k"] == 9)["sizes"])

figure, (left, right) = plot(2, height=3.4)
group = size_iou(sides, nine).argmax(1)
left.scatter(*sides.T, c=group, cmap="tab10", s=5, alpha=0.6)
left.plot(*nine.T, "k+", markersize=10, markeredgewidth=2)
left.set(xlabel="width / image width", ylabel="height / image height", title="nine groups of boxes")
counts, fits = [s["k"] for s in suggested], [s["mean_iou"] for s in suggested]
right.plot(counts, fits, "o-", color="#4363d8", label="here")
right.plot([5, 9], [0.610, 0.672], "s", color="#e6194b", label="published for VOC2007")
right.set(xlabel="anchors", ylabel="mean best IoU", ylim=(0.2, 0.85), title="how well they fit")
right.legend(frameon=False, loc="lower right")
show(figure)

# %%
# **What you should see.** The first few anchors buy much, the later ones little: the usual sign
# that there is no natural number of them. Redmon and Farhadi published 0.610 for five and 0.672
# for nine anchors of VOC2007; where ``VOCDEVKIT`` has it, this page finds the same to a
# hundredth.

assert suggested[8]["mean_iou"] > suggested[4]["mean_iou"] > suggested[0]["mean_iou"]
if voc("VOC2007"):
    from frostbox.data.patterns import patterns

    fit = {
        a["k"]: a["mean_iou"] for a in patterns(data.load(voc("VOC2007"), "trainval"))["anchors"]
    }
    assert abs(fit[5] - 0.610) < 0.01
    assert abs(fit[9] - 0.672) < 0.01

# %%
# Offsets
# -------
# An anchor does not predict a box but how the object differs from itself: how far its centre is
# away, in sizes of the anchor, and how much larger it is, as a logarithm, so that twice as large
# and half as large are equally far. The numbers 0.1 and 0.2 bring them to about the same spread.

from frostbox.boxes import decode_offsets, encode_offsets

anchor = torch.tensor([0.50, 0.50, 0.20, 0.40])
box = torch.tensor([0.53, 0.46, 0.30, 0.40])
by_hand = [
    (0.53 - 0.50) / 0.20 / 0.1,
    (0.46 - 0.50) / 0.40 / 0.1,
    float(np.log(0.30 / 0.20)) / 0.2,
    float(np.log(0.40 / 0.40)) / 0.2,
]
print([round(value, 3) for value in by_hand])

assert torch.allclose(encode_offsets(box, anchor), torch.tensor(by_hand), atol=1e-5)
assert torch.allclose(decode_offsets(torch.tensor(by_hand), anchor), box, atol=1e-6)

# %%
# Training
# --------
# The anchors head takes three of the nine shapes at each cell of strides 8, 16 and 32, the small
# ones on the fine map, and finds the shapes itself.

import frostbox

detector = frostbox.train(
    data_folder(),
    head="anchors",
    size=(224, 224),
    epochs=8,
    batch_size=16,
    lr=4e-3,
    device="cpu",
    out=WORK / "09_anchors",
    cache=WORK / "features",
    overwrite=True,
)

# %%
# Who learns what
# ---------------
# An anchor that overlaps an object by an IoU of 0.5 or more learns it, and every object gets the
# anchor that fits it best, however badly. All others learn *background*. Here for one picture:

from torchvision.ops import box_convert

from frostbox.data.photos import read_image
from frostbox.data.targets import targets
from frostbox.data.transforms import apply_image, geometry
from frostbox.heads.assignment import match_anchors

image = train.images[4]
squeeze = geometry("shrink", (image.width, image.height), (224, 224))
pixels = apply_image(read_image(image.photo), squeeze)
with torch.no_grad():
    raw = detector.raw(detector.backbone(detector.backbone.normalise(pixels[None])))
truth = targets(image, train, squeeze)["boxes"]
anchors = raw["anchors"][0]
corners = box_convert(anchors, "cxcywh", "xyxy")
found = match_anchors(anchors, torch.zeros(len(truth), dtype=torch.int64), truth, batch=1)


figure, (left, right) = plot(2, height=3.5)
for ax in (left, right):
    ax.imshow(pixels.permute(1, 2, 0), extent=(0, 1, 1, 0), alpha=0.6)
    ax.set_axis_off()
for shape in range(9):
    level, k = divmod(shape, 3)
    start = (0, 28 * 28 * 3, 28 * 28 * 3 + 14 * 14 * 3)[level]
    cell = {0: 14 * 28 + 14, 1: 7 * 14 + 7, 2: 3 * 7 + 3}[level]
    colour = ("#e6194b", "#4363d8", "#3cb44b")[level]
    frame(left, corners[start + 3 * cell + k], color=colour, linewidth=1.5)
left.set_title("three anchors of one cell, stride 8, 16, 32", fontsize=10)
for k in found.anchor.tolist():
    frame(right, corners[k], color="#ffd60a", linewidth=1)
for box in box_convert(truth, "cxcywh", "xyxy"):
    frame(right, box, color="#e6194b", linewidth=2)
right.set_title("matched anchors, and the truth in red", fontsize=10)
show(figure)

matched = len(found.anchor)
print(f"{len(anchors)} anchors, {matched} learn an object: one in {len(anchors) // matched}")

assert len(anchors) == (28 * 28 + 14 * 14 + 7 * 7) * 3
assert found.own == len(truth)

# %%
# **What you should see.** Every object has an anchor or several, and yet hardly more than one
# anchor in a hundred has an object. If all of them counted alike, the loss would be a loss about
# background, and *nothing here* would be a splendid answer. **Hard-negative mining** takes only
# the background anchors that are most wrong, three for each matched one. Page 11 has another
# cure.
#
# Better than the grid?
# ---------------------

from frostbox import Detector

grid = Detector.load(trained("06_grid"))
ap50 = {
    "grid": grid.settings.training["evaluation"]["ap50"],
    "anchors": detector.settings.training["evaluation"]["ap50"],
}
print({name: round(value, 3) for name, value in ap50.items()})

assert ap50["anchors"] > ap50["grid"]

from PIL import Image

photos = [image.photo for image in val.images[:6]]
pictures = [
    found.draw(Image.open(photo).convert("RGB"))
    for photo, found in zip(photos, detector.predict(photos, threshold=0.4), strict=True)
]
show(pictures)

# %%
# **What you should see.** Boxes that fit, small objects too, and several in each picture. The
# backbone is the same, and the head has fewer weights. What has changed is how the question is
# put.
#
# Try it
# ------
# * Give the head one anchor a cell (``kmeans=1``). What does it lose?
# * Which objects have only one anchor, their own? Look at their IoU with it.
#
# Next: :doc:`10_scales`.
