"""
7. IoU and NMS: one box for each object
=======================================

The grid found objects, and some of them twice. To say that two boxes are *about the same object*,
we need a number for how well boxes agree; to keep only the better one, a rule. The number is
**IoU**, the rule is **NMS**, and no detector gets by without either.

On this page: both by hand in a few lines, both as the library has them, and the grid's boxes
after.
"""

# %%
# Intersection over union
# -----------------------
# What two boxes share, divided by what they cover together: 1 for equal boxes, 0 for boxes that
# do not touch. It asks for place, size and shape at once, and it does not change when the picture
# is scaled.

# sphinx_gallery_thumbnail_number = 3
import torch
from helper import data_folder, frame, plot, show, trained
from torchvision.ops import box_iou, nms


def iou_by_hand(a, b):
    """IoU of two boxes (xmin, ymin, xmax, ymax)."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return float(shared / (sum(areas) - shared))


a, half_aside = (0, 0, 10, 10), (5, 0, 15, 10)
print("moved by half its width:", round(iou_by_hand(a, half_aside), 3))

assert iou_by_hand(a, a) == 1
assert iou_by_hand(a, half_aside) == 50 / 150
assert iou_by_hand(a, (10, 0, 20, 10)) == 0

# %%
# **What you should see.** A third, not a half: what is missing counts twice, once in each box.
# IoU is strict, and it pays to know by heart what its values look like.

figure, axes = plot(4, height=2.2)
for ax, target in zip(axes, (0.9, 0.7, 0.5, 0.3), strict=True):
    # Two squares of side 1, moved along the diagonal: s * s / (2 - s * s) with s = 1 - move.
    move = 1 - (2 * target / (1 + target)) ** 0.5
    for shift, colour in ((0, "#3cb44b"), (move, "#e6194b")):
        frame(ax, (shift, shift, 1 + shift, 1 + shift), color=colour, linewidth=2)
    assert abs(iou_by_hand((0, 0, 1, 1), (move, move, 1 + move, 1 + move)) - target) < 1e-9
    ax.set(xlim=(-0.1, 1.6), ylim=(1.6, -0.1), aspect="equal", title=f"IoU {target}")
    ax.set_axis_off()
show(figure)

# %%
# 0.5 looks careless and is what VOC asks for; 0.9 looks perfect and is hard to reach even for two
# people who draw the same object.
#
# The library computes all pairs of two lists at once. It agrees:

generator = torch.Generator().manual_seed(0)
corners = torch.rand(20, 2, generator=generator)
boxes = torch.cat((corners, corners + torch.rand(20, 2, generator=generator) + 0.05), 1)
by_hand = [[iou_by_hand(p, q) for q in boxes.tolist()] for p in boxes.tolist()]

assert torch.allclose(box_iou(boxes, boxes), torch.tensor(by_hand), atol=1e-6)

# %%
# Non-maximum suppression
# -----------------------
# Take the boxes from the highest score to the lowest. Keep one, unless it overlaps a box that was
# kept already by more than a threshold. That is all.


def nms_by_hand(boxes, scores, threshold):
    """Positions of the boxes that stay, best first."""
    kept = []
    for k in scores.argsort(descending=True).tolist():
        if all(iou_by_hand(boxes[k].tolist(), boxes[j].tolist()) <= threshold for j in kept):
            kept.append(k)
    return kept


scores = torch.rand(20, generator=generator)

assert nms_by_hand(boxes, scores, 0.3) == nms(boxes, scores, 0.3).tolist()

# %%
# Step by step
# ------------
# The grid detector of page 6, on the picture of the validation set with the most boxes of one
# class. NMS goes **class by class**: a person in front of a boat must not delete the boat. The
# grid's boxes are rough, so that two of one object may overlap by less than a half: here an IoU
# above 0.3 counts as *the same object*.

from PIL import Image

from frostbox import Detector, data

detector = Detector.load(trained("06_grid"))
val = data.load(data_folder(), "val")
photos = [image.photo for image in val.images]
before = detector.predict(photos, threshold=0.2, nms=None)
k, name = max(
    ((k, name) for k, one in enumerate(before) for name in one.names),
    key=lambda pair: before[pair[0]].names.count(pair[1]),
)
found = before[k]
rows = [row for row, other in enumerate(found.names) if other == name]
boxes, scores = torch.tensor(found.boxes[rows]), torch.tensor(found.scores[rows])

kept = nms_by_hand(boxes, scores, 0.3)
figure, axes = plot(min(3, len(kept)), height=2.2)
waiting = set(range(len(boxes)))
for step, ax in enumerate(axes):
    ax.imshow(Image.open(photos[k]), alpha=0.5)
    ax.set_axis_off()
    ax.set_title(f"keep {scores[kept[step]]:.2f}", fontsize=10)
    overlap = box_iou(boxes[kept[step]][None], boxes)[0]
    removed = {row for row in waiting - set(kept) if overlap[row] > 0.3}
    waiting -= removed
    for row in waiting - set(kept[: step + 1]):
        frame(ax, boxes[row], color="#777777", linewidth=1)
    for row in removed:
        frame(ax, boxes[row], color="#e6194b", linewidth=1.5, linestyle="--")
    for row in kept[: step + 1]:
        frame(ax, boxes[row], color="#3cb44b", linewidth=1.5 + (row == kept[step]))
show(figure)
print(f"{len(rows)} boxes of class {name}, {len(kept)} are kept")

# %%
# **What you should see.** From left to right, green what is kept, dashed red what that removes,
# grey what waits for its turn.

assert kept == nms(boxes, scores, 0.3).tolist()

# %%
# Predictions at 0.2, before and after
# ------------------------------------
# The six pictures of page 6 again.

after = detector.predict(photos, threshold=0.2, nms=0.3)
most = sorted(range(len(before)), key=lambda k: -len(before[k]))[:6]
sheet, captions = [], []
for k in most:
    photo = Image.open(photos[k]).convert("RGB")
    sheet += [before[k].draw(photo), after[k].draw(photo)]
    captions += [f"before: {len(before[k])}", f"after: {len(after[k])}"]
show(sheet, captions)

assert all(len(a) <= len(b) for a, b in zip(after, before, strict=True))
assert sum(map(len, after)) < sum(map(len, before))

# %%
# **What you should see.** On the left before, on the right after. Doubles of the same class are
# gone. What is left over: boxes of different classes on one object, and doubles that hardly
# overlap.
#
# Two knobs
# ---------
# The score threshold decides how sure is sure enough; the IoU threshold decides how close two
# objects may stand. The network need not run again for that: its raw outputs are the same.

outputs = list(detector.raw_stream(photos))


def boxes_left(**selection):
    """How many boxes of the whole validation set stay."""
    chosen = detector.settings.selection.changed(**selection)
    return sum(len(d) for _, raw, geos in outputs for d in detector.select(raw, geos, chosen))


every = {}
for threshold in (0.05, 0.1, 0.2, 0.4):
    row = [boxes_left(threshold=threshold, nms=overlap) for overlap in (0.3, 0.5, 0.7, None)]
    every[threshold] = row
    print(f"score from {threshold:4}: " + "  ".join(f"{count:4}" for count in row))
print("NMS at IoU of    0.3   0.5   0.7  none")

assert all(row[-1] == max(row) for row in every.values())

# %%
# Two people arm in arm overlap by more than a half: NMS deletes one of them. Two gentler rules
# exist. **Soft-NMS** lowers the score of the neighbour instead of deleting it (Bodla et al.
# 2017); **weighted box fusion** makes one box of all that overlap, as their average (Solovyev et
# al. 2021). Both are a word in frostbox:

for rule in ("nms", "agnostic", "soft-linear", "soft-gaussian", "wbf"):
    print(f"{rule:13} {boxes_left(threshold=0.1, suppression=rule)} boxes")

# %%
# Which is best? To answer that we need a score for a whole detector.
#
# Try it
# ------
# * Two boxes share their centre and one is half as large each way. What is their IoU? Guess
#   first.
# * Make NMS by hand go class by class, and compare it with ``torchvision.ops.batched_nms``.
#
# Next: :doc:`08_average_precision`.
