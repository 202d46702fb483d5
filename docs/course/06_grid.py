"""
6. The grid: all objects at once
================================

One answer an image was not enough. But the feature map already is a grid of 7 x 7 cells, and each
of them could answer for itself: *is the centre of an object in me? then here is its box and its
class.* That is the idea of YOLO (Redmon et al. 2016), *you only look once*.

On this page: how objects become targets of cells, with the published example to the digit, what
cannot be said that way, and a detector that finds many objects.
"""

# %%
# The cell that hosts a centre
# ----------------------------
# With ``n`` cells a side, the column is the whole part of ``cx * n`` and the row that of ``cy *
# n``. The rest, between 0 and 1, says where in the cell the centre lies. Width and height stay
# relative to the image, because a large object is larger than any cell.

# sphinx_gallery_thumbnail_number = 3
from helper import WORK, data_folder, frame, plot, show

from frostbox import data

objects = [
    {"bndbox": {"cx": 0.60, "cy": 0.65, "width": 0.84, "height": 0.75}, "class": 5},
    {"bndbox": {"cx": 0.40, "cy": 0.20, "width": 0.26, "height": 0.27}, "class": 0},
]
for obj in objects:
    cx, cy = obj["bndbox"]["cx"] * 4, obj["bndbox"]["cy"] * 4
    print(f"class {obj['class']}: row {int(cy)}, column {int(cx)}, in the cell at", end=" ")
    print(f"({cx - int(cx):.1f}, {cy - int(cy):.1f})")

# %%
# The library writes that into three tensors: the boxes, whether a cell hosts an object, and its
# class.

grid = data.targets_to_grid_cell_tensor(objects, 4)
print(grid["has_obj"])
print(grid["labels"])
for row, column in grid["has_obj"].nonzero().tolist():
    print((row, column), grid["bboxes"][:, row, column])

# %%
# **What you should see**, as it was published: ``bboxes`` of shape (4, 4, 4), with (0.4, 0.6,
# 0.84, 0.75) in row 2, column 2 and (0.6, 0.8, 0.26, 0.27) in row 0, column 1; ``has_obj`` 1 in
# these two cells; the label 5 in the first and 0 in the second. All else is zero.

import torch

assert grid["bboxes"].shape == (4, 4, 4)
assert grid["has_obj"].nonzero().tolist() == [[0, 1], [2, 2]]
assert torch.allclose(grid["bboxes"][:, 2, 2], torch.tensor([0.4, 0.6, 0.84, 0.75]))
assert torch.allclose(grid["bboxes"][:, 0, 1], torch.tensor([0.6, 0.8, 0.26, 0.27]))
assert grid["labels"].nonzero().tolist() == [[2, 2]]
assert grid["labels"][2, 2] == 5

# %%
# On a picture
# ------------
# The data set makes such targets with ``target_mode`` *all_bbox*.

from matplotlib.patches import Rectangle

from frostbox.boxes import decode_grid

folder = data_folder()
shrink = {"image_mode": "shrink", "output_image_size": {"width": 224, "height": 224}}
train, valid = data.make_trainval_dataset(
    folder, shrink, None, {"target_mode": "all_bbox", "num_cells": 7}
)


def draw_cells(ax, picture, target):
    """The picture, its 7 x 7 cells, and in the cells that host an object its centre and box."""
    ax.imshow(picture, extent=(0, 7, 7, 0))
    ax.set_xticks(range(8))
    ax.set_yticks(range(8))
    ax.grid(color="white", linewidth=0.7)
    ax.tick_params(labelbottom=False, labelleft=False, length=0)
    ax.spines[:].set_visible(False)
    for row, column in target["has_obj"].nonzero().tolist():
        ax.add_patch(Rectangle((column, row), 1, 1, color="#ffd60a", alpha=0.45))
        cx, cy, w, h = (7 * decode_grid(target["bboxes"][None])[0, 7 * row + column]).tolist()
        frame(ax, (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2), color="#e6194b", linewidth=1.5)
        ax.plot(cx, cy, "o", color="#e6194b", markersize=5)


figure, axes = plot(2, height=3.6)
for ax, k in zip(axes, (4, 5), strict=True):
    draw_cells(ax, *train[k])
show(figure)

# %%
# **What you should see.** Every box has its centre in a yellow cell, and that cell has to predict
# the whole box, however far it reaches beyond.
#
# What a grid cannot say
# ----------------------
# A cell has one answer. When two centres share a cell, the larger object keeps it and the other
# is lost, before anything was learnt.

hosted = sum(int(train[k][1]["has_obj"].sum()) for k in range(len(train)))
every = sum(len(image.objects) for image in train.images)
print(f"{every} objects, {hosted} cells that host one: {1 - hosted / every:.1%} are lost")

assert hosted < every

# %%
# In VOC2007 it is one in nine with 7 x 7 cells, and one in fifty with 20 x 20 (:doc:`/results`).
#
# Training
# --------
# ``frostbox.train`` does what pages 4 and 5 did by hand, with two views of each image: features
# once, then the head. The grid head's loss has three parts: whether a cell hosts an object (in
# all cells), and box and class (only in cells that do). ``neck=2`` puts two 3 x 3 convolutions in
# front, so that a cell sees its neighbours: it has to know where an object ends.

import frostbox

detector = frostbox.train(
    folder,
    head="grid",
    neck=2,
    neck_width=128,
    width=256,
    epochs=10,
    batch_size=32,
    lr=2e-3,
    device="cpu",
    out=WORK / "06_grid",
    cache=WORK / "features",
    overwrite=True,
)
figures = detector.settings.training["evaluation"]
print(f"right class in {figures['accuracy']:.0%} of the cells that host an object")
print(f"overlap of their boxes with the truth: {figures['mean_iou']:.2f}")

# %%
# What the cells say
# ------------------
# Each cell answers with a box, an **objectness** (how sure it is to host a centre) and
# probabilities of the classes. The **score** of a box is objectness times probability.

from frostbox.data.photos import read_image
from frostbox.data.transforms import apply_image, geometry

annotation = valid.images[0]
squeeze = geometry("shrink", (annotation.width, annotation.height), (224, 224))
pixels = apply_image(read_image(annotation.photo), squeeze)
with torch.no_grad():
    maps = detector.backbone(detector.backbone.normalise(pixels[None]))
    raw = detector.raw(maps)
objectness = raw["logits"][0, -1].sigmoid()
print("raw outputs:", {name: tuple(tensor.shape) for name, tensor in raw.items()})

figure, (left, right) = plot(2, height=3.6)
draw_cells(left, *valid[0])
left.set_title("the truth")
right.imshow(pixels.permute(1, 2, 0), extent=(0, 7, 7, 0), alpha=0.3)
right.imshow(objectness, extent=(0, 7, 7, 0), cmap="Blues", alpha=0.75, vmin=0)
for i in range(7):
    for j in range(7):
        right.text(
            j + 0.5, i + 0.5, f"{objectness[i, j]:.2f}", ha="center", va="center", fontsize=7
        )
right.set_title("objectness that each cell predicts")
right.set_axis_off()
show(figure)

# %%
# Predictions at 0.2
# ------------------
# Keep every box whose score is at least 0.2. ``nms=None`` keeps them all; that will change on the
# next page. Here are the six pictures of the validation set with the most boxes.

from PIL import Image

photos = [image.photo for image in valid.images]
found = detector.predict(photos, threshold=0.2, nms=None)
most = sorted(range(len(found)), key=lambda k: -len(found[k]))[:6]
pictures = [found[k].draw(Image.open(photos[k]).convert("RGB")) for k in most]
show(pictures, [f"boxes: {len(found[k])}" for k in most])
print(f"{sum(len(detections) for detections in found)} boxes in {len(found)} images")

assert all((detections.scores >= 0.2).all() for detections in found)
assert sum(len(detections) for detections in found) > 6

# %%
# **What you should see.** More than one object in an image, at last. And often two or three boxes
# on one object: its centre lies near the border of a cell, and the neighbour claims it as well.
# Nobody has told the cells to agree among themselves.
#
# Try it
# ------
# * How many objects are lost with 4 cells a side, and with 14?
# * Train without ``neck``. What happens to the boxes?
#
# Next: :doc:`07_iou_and_nms`, which makes them.
